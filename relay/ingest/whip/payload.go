package whip

import (
	"encoding/binary"

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
	if !any {
		p.picture = true // a later fragment
	}
	return p
}

// RFC 7798 §4.4: single NAL units, aggregation packets (48) and fragments (49).
func examineH265(b []byte) part {
	if len(b) < 3 {
		return part{picture: true}
	}
	typ := func(b byte) byte { return b >> 1 & 0x3f }
	unit := func(t byte, first byte) part {
		if t >= 32 {
			return part{begins: true}
		}
		return part{picture: true, begins: first&0x80 != 0, key: t >= 16 && t <= 21} // IRAP
	}
	switch t := typ(b[0]); t {
	case 48:
		var p part
		for rest := b[2:]; len(rest) > 4; {
			size := int(binary.BigEndian.Uint16(rest))
			if rest = rest[2:]; size < 3 || size > len(rest) {
				break
			}
			u := unit(typ(rest[0]), rest[2])
			p = part{picture: p.picture || u.picture, begins: p.begins || u.begins, key: p.key || u.key}
			rest = rest[size:]
		}
		return p
	case 49:
		if b[2]&0x80 == 0 || len(b) < 4 {
			return part{picture: true}
		}
		return unit(b[2]&0x3f, b[3])
	default:
		return unit(t, b[2])
	}
}

// vp8Size reads the size that a VP8 key frame begins with (RFC 6386 §9.1).
func vp8Size(b []byte) (width, height int, ok bool) {
	var p codecs.VP8Packet
	frame, err := p.Unmarshal(b)
	if err != nil || len(frame) < 10 || frame[3] != 0x9d || frame[4] != 1 || frame[5] != 0x2a {
		return 0, 0, false
	}
	return int(binary.LittleEndian.Uint16(frame[6:]) & 0x3fff), int(binary.LittleEndian.Uint16(frame[8:]) & 0x3fff), true
}
