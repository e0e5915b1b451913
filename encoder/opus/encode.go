//go:build cgo && (amd64 || arm64 || arm)

package opus

import (
	"fmt"
	"io"
	"time"

	"github.com/pion/mediadevices/pkg/codec"
	"github.com/pion/mediadevices/pkg/codec/opus"
	"github.com/pion/mediadevices/pkg/io/audio"
	"github.com/pion/mediadevices/pkg/prop"
	"github.com/pion/mediadevices/pkg/wave"

	"gantry/encoder"
	"gantry/media"
)

type coder struct {
	bitrate int
	closed  bool

	// Of the sound that comes in; a change of format begins anew.
	format media.AudioFormat
	lib    codec.ReadCloser
	fill   []float32                // stereo samples towards the next packet, with room for exactly one
	chunk  *wave.Float32Interleaved // fill, as the library takes it
	full   bool                     // chunk is for the library to read

	start time.Duration // PTS of the timeline's first sample
	count int64         // samples per channel since, those in fill included
}

// New returns an encoder that is ready for sound of any format that the package takes.
func New(c Config) (encoder.AudioEncoder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &coder{bitrate: c.Bitrate}, nil
}

func (c *coder) Track() media.Track { return track(c.bitrate) }

func (c *coder) Encode(a *media.Audio) ([]*media.Packet, error) {
	if c.closed {
		return nil, errClosed
	}
	if c.lib == nil || a.Format != c.format {
		if err := c.open(a.Format); err != nil {
			return nil, fmt.Errorf("encode opus: %w", err)
		}
		c.restart(a.PTS)
	}
	if off := a.PTS - c.at(c.count); off > tolerance || off < -tolerance {
		c.restart(a.PTS)
	}
	var packets []*media.Packet
	for in := a.Samples; len(in) >= c.format.Channels; {
		in = c.take(in)
		if len(c.fill) < cap(c.fill) {
			continue
		}
		first := c.count - int64(len(c.fill)/channels)
		data, err := c.encode()
		if err != nil {
			return packets, fmt.Errorf("encode opus: %w", err)
		}
		pts := c.at(first)
		packets = append(packets, &media.Packet{PTS: pts, DTS: pts, Start: true, End: true, Key: true, Data: data})
	}
	return packets, nil
}

// take moves samples to fill until it is full or in is used up, one channel becoming two, and returns the rest.
func (c *coder) take(in []float32) []float32 {
	n := min(len(in)/c.format.Channels, (cap(c.fill)-len(c.fill))/channels)
	if c.format.Channels == channels {
		c.fill = append(c.fill, in[:n*channels]...)
	} else {
		for _, s := range in[:n] {
			c.fill = append(c.fill, s, s)
		}
	}
	c.count += int64(n)
	return in[n*c.format.Channels:]
}

// encode codes the full fill and empties it.
func (c *coder) encode() ([]byte, error) {
	c.chunk.Data, c.full = c.fill, true
	data, release, err := c.lib.Read()
	if err != nil {
		return nil, err
	}
	defer release() // a formality: data is fresh Go memory
	c.fill = c.fill[:0]
	return data, nil
}

// open starts the library for sound of format f.
func (c *coder) open(f media.AudioFormat) error {
	if err := takes(f); err != nil {
		return err
	}
	if err := c.shut(); err != nil {
		return err
	}
	params, err := opus.NewParams()
	if err != nil {
		return err
	}
	params.BitRate = c.bitrate
	params.Latency = opus.Latency20ms
	n := int(frame * time.Duration(f.Rate) / time.Second)
	c.chunk = wave.NewFloat32Interleaved(wave.ChunkInfo{Len: n, Channels: channels, SamplingRate: f.Rate})
	c.fill = make([]float32, 0, n*channels)
	lib, err := params.BuildAudioEncoder(audio.ReaderFunc(c.lend), prop.Media{
		Audio: prop.Audio{SampleRate: f.Rate, ChannelCount: channels, Latency: frame},
	})
	if err != nil {
		return err
	}
	c.lib, c.format = lib, f
	return nil
}

// lend is the library's source: one chunk a packet, then nothing until the next is full.
func (c *coder) lend() (wave.Audio, func(), error) {
	if !c.full {
		return nil, func() {}, io.EOF
	}
	c.full = false
	return c.chunk, func() {}, nil
}

// restart begins a timeline at pts. What waited for a whole packet, less than 20 ms, is dropped.
func (c *coder) restart(pts time.Duration) {
	c.start, c.count, c.fill = pts, 0, c.fill[:0]
}

// at is the PTS of sample n of the timeline.
func (c *coder) at(n int64) time.Duration {
	rate := int64(max(c.format.Rate, 1))
	return c.start + time.Duration(n/rate)*time.Second + time.Duration(n%rate)*time.Second/time.Duration(rate)
}

func (c *coder) SetBitrate(bps int) error {
	if c.closed {
		return errClosed
	}
	if err := (Config{Bitrate: bps}).Validate(); err != nil {
		return err
	}
	if c.lib != nil {
		control, ok := c.lib.Controller().(codec.BitRateController)
		if !ok {
			return fmt.Errorf("set opus bitrate: %w", encoder.ErrRestart)
		}
		if err := control.SetBitRate(bps); err != nil {
			return fmt.Errorf("set opus bitrate: %w", err)
		}
	}
	c.bitrate = bps
	return nil
}

func (c *coder) Close() error {
	c.closed = true
	return c.shut()
}

func (c *coder) shut() error {
	if c.lib == nil {
		return nil
	}
	err := c.lib.Close()
	c.lib, c.format = nil, media.AudioFormat{}
	return err
}
