// Package packing turns access units into RTP payloads and back, one converter a track, by pion's payload formats
// (RFC 6184 H.264, RFC 7798 H.265, AV1's own, RFC 7741 VP8, RFC 9628 VP9, RFC 7587 Opus).
//
// It knows no RTP header: sequence numbers, timestamps and SSRCs belong to whoever sends.
package packing

import (
	"errors"
	"fmt"
	"io"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"gantry/media"
)

// MaxPayload is the largest RTP payload that a Converter makes, in bytes: with headers, extensions and SRTP's tag it fits
// the 1280 bytes that every IPv6 path carries.
const MaxPayload = 1180

// maxUnit bounds the access unit that is put together from payloads.
const maxUnit = 16 << 20

// A Converter turns the packets of one track into another packing. One goroutine uses it.
type Converter interface {
	// Convert appends what p completes to dst. It keeps no reference to dst; the packets' Data may share p's.
	Convert(dst []*media.Packet, p *media.Packet) []*media.Packet
}

// New returns a Converter for packets of track into packing want. A track that is packed so already passes through.
func New(track media.Track, want media.Packing) (Converter, error) {
	if track.Packing == want {
		return through{}, nil
	}
	if want == media.RTP {
		if p := payloader(track.Codec); p != nil {
			return &packer{payloader: p}, nil
		}
	} else if d := depacketizer(track.Codec); d != nil {
		return &unpacker{fresh: func() rtp.Depacketizer { return depacketizer(track.Codec) }, depacketizer: d}, nil
	}
	return nil, fmt.Errorf("pack %v as %v: no such RTP payload format here", track.Codec, want)
}

// Chain returns a Converter that passes what each of them returns on to the next. Closing it closes those that can be.
func Chain(converters ...Converter) Converter {
	return &chain{converters: converters, between: make([][]*media.Packet, len(converters))}
}

type chain struct {
	converters []Converter
	between    [][]*media.Packet // what each returned last
}

func (c *chain) Convert(dst []*media.Packet, p *media.Packet) []*media.Packet {
	return c.pass(dst, 0, p)
}

func (c *chain) pass(dst []*media.Packet, i int, p *media.Packet) []*media.Packet {
	if i == len(c.converters) {
		return append(dst, p)
	}
	c.between[i] = c.converters[i].Convert(c.between[i][:0], p)
	for _, out := range c.between[i] {
		dst = c.pass(dst, i+1, out)
	}
	return dst
}

func (c *chain) Close() error {
	var errs []error
	for _, one := range c.converters {
		if closer, ok := one.(io.Closer); ok {
			errs = append(errs, closer.Close())
		}
	}
	return errors.Join(errs...)
}

func payloader(c media.Codec) rtp.Payloader {
	switch c {
	case media.H264:
		return &codecs.H264Payloader{}
	case media.H265:
		return &codecs.H265Payloader{}
	case media.AV1:
		return &codecs.AV1Payloader{}
	case media.VP8:
		return &codecs.VP8Payloader{EnablePictureID: true}
	case media.VP9:
		return &codecs.VP9Payloader{}
	case media.Opus:
		return &codecs.OpusPayloader{}
	}
	return nil
}

func depacketizer(c media.Codec) rtp.Depacketizer {
	switch c {
	case media.H264:
		return &codecs.H264Packet{}
	case media.H265:
		return &codecs.H265Depacketizer{}
	case media.AV1:
		return &codecs.AV1Depacketizer{}
	case media.VP8:
		return &codecs.VP8Packet{}
	case media.VP9:
		return &codecs.VP9Packet{}
	case media.Opus:
		return &codecs.OpusPacket{}
	}
	return nil
}

type through struct{}

func (through) Convert(dst []*media.Packet, p *media.Packet) []*media.Packet { return append(dst, p) }

type packer struct{ payloader rtp.Payloader }

func (c *packer) Convert(dst []*media.Packet, p *media.Packet) []*media.Packet {
	payloads := c.payloader.Payload(MaxPayload, p.Data)
	for i, data := range payloads {
		dst = append(dst, &media.Packet{Track: p.Track, PTS: p.PTS, DTS: p.DTS, Start: i == 0, End: i == len(payloads)-1,
			Key: p.Key, Lost: p.Lost && i == 0, Data: data})
	}
	return dst
}

// unpacker collects payloads until the last of an access unit. A unit with a piece missing is not delivered; the next whole
// one is marked Lost.
type unpacker struct {
	fresh        func() rtp.Depacketizer
	depacketizer rtp.Depacketizer
	unit         []byte
	open         bool // a Start has been seen and nothing is missing since
	key, lost    bool
}

func (c *unpacker) Convert(dst []*media.Packet, p *media.Packet) []*media.Packet {
	if p.Lost {
		c.drop()
	}
	if p.Start {
		c.unit, c.open, c.key = nil, true, p.Key
	}
	if !c.open {
		return dst
	}
	data, err := c.depacketizer.Unmarshal(p.Data)
	if err != nil || len(c.unit)+len(data) > maxUnit {
		c.drop()
		return dst
	}
	c.unit = append(c.unit, data...)
	if !p.End {
		return dst
	}
	c.open = false
	if len(c.unit) == 0 {
		return dst
	}
	out := &media.Packet{Track: p.Track, PTS: p.PTS, DTS: p.DTS, Start: true, End: true, Key: c.key, Lost: c.lost, Data: c.unit}
	c.unit, c.lost = nil, false
	return append(dst, out)
}

// drop forgets the unit under way and what the depacketizer holds of it.
func (c *unpacker) drop() {
	c.unit, c.open, c.lost = nil, false, true
	c.depacketizer = c.fresh()
}
