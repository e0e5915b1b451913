package whip

import (
	"encoding/binary"
	"iter"

	"github.com/pion/rtp/codecs"

	"gantry/media"
	"gantry/media/h264"
)

// rtpPayload returns the payload of an RTP packet without padding (RFC 3550 §5.1); false when the packet is malformed.
func rtpPayload(b []byte) ([]byte, bool) {
	if len(b) < 12 || b[0]>>6 != 2 {
		return nil, false
	}
	at := 12 + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < at+4 {
			return nil, false
		}
		at += 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
	}
	end := len(b)
	if b[0]&0x20 != 0 {
		pad := int(b[len(b)-1])
		if pad == 0 {
			return nil, false
		}
		end -= pad
	}
	if at > end {
		return nil, false
	}
	return b[at:end], true
}

// A part is what one RTP payload is of its access unit.
type part struct {
	picture bool // holds (part of) a picture, not only what goes before one
	begins  bool // may be the first of its access unit
	key     bool // of a picture at which decoding can begin
}

// examine looks at the first bytes of a payload. What it does not understand is part of a picture and nothing else.
func examine(codec media.Codec, b []byte) part {
	switch codec {
	case media.H264:
		return examineH264(b)
	case media.H265:
		return examineH265(b)
	case media.VP8:
		var p codecs.VP8Packet
		frame, err := p.Unmarshal(b)
		if err != nil || len(frame) == 0 {
			return part{picture: true}
		}
		begins := p.S == 1 && p.PID == 0
		return part{picture: true, begins: begins, key: begins && frame[0]&1 == 0} // RFC 6386 §9.1
	case media.VP9:
		var p codecs.VP9Packet
		if _, err := p.Unmarshal(b); err != nil {
			return part{picture: true}
		}
		begins := p.B && p.SID == 0
		return part{picture: true, begins: begins, key: begins && !p.P}
	case media.AV1: // aggregation header: Z is a continued OBU, N a new coded video sequence
		if len(b) == 0 {
			return part{picture: true}
		}
		return part{picture: true, begins: b[0]&0x80 == 0, key: b[0]&0x08 != 0}
	}
	return part{picture: true, begins: true, key: true} // each audio packet stands alone
}

func examineH264(b []byte) part {
	var p part
	any := false
	for u := range h264.RTPUnits(b) {
		any = true
		if !u.Slice() {
			p.begins = true
			continue
		}
		p.picture = true
		p.begins = p.begins || u.BeginsPicture()
		p.key = p.key || u.Type() == h264.IDR
	}
	if !any { // a later fragment
		p.picture = len(b) < 2 || h264.TypeOf(b) != fuA || h264.RTPUnit{Header: b[1]}.Slice()
	}
	return p
}

const fuA = 28 // RFC 6184 §5.8

// h265Units walks the NAL units that are whole in a payload, alone or aggregated (RFC 7798 §4.4.1, §4.4.2). Each has its header
// of two bytes and more.
func h265Units(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(b) < 3 {
			return
		}
		switch t := b[0] >> 1 & 0x3f; {
		case t == 48:
			for rest := b[2:]; len(rest) > 4; {
				size := int(binary.BigEndian.Uint16(rest))
				if rest = rest[2:]; size < 3 || size > len(rest) || !yield(rest[:size:size]) {
					return
				}
				rest = rest[size:]
			}
		case t < 48:
			yield(b)
		}
	}
}

func examineH265(b []byte) part {
	unit := func(typ, first byte) part {
		if typ >= 32 {
			return part{begins: true}
		}
		return part{picture: true, begins: first&0x80 != 0, key: typ >= 16 && typ <= 21} // IRAP
	}
	if len(b) > 3 && b[0]>>1&0x3f == 49 { // fragments
		if b[2]&0x80 != 0 { // the first
			return unit(b[2]&0x3f, b[3])
		}
		return part{picture: b[2]&0x3f < 32}
	}
	p, any := part{}, false
	for nalu := range h265Units(b) {
		u := unit(nalu[0]>>1&0x3f, nalu[2])
		p, any = part{picture: p.picture || u.picture, begins: p.begins || u.begins, key: p.key || u.key}, true
	}
	p.picture = p.picture || !any
	return p
}
