package whip

import (
	"encoding/binary"
	"slices"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/vp9"
	"github.com/pion/rtp/codecs"

	"gantry/media"
)

// pictureSize reads the size from the first payload of a key frame; for H.265 from any payload before it. H.264's is in
// media/h264's hands.
func pictureSize(codec media.Codec, b []byte) (width, height int, ok bool) {
	switch codec {
	case media.VP8:
		return vp8Size(b)
	case media.VP9:
		return vp9Size(b)
	case media.AV1:
		return av1Size(b)
	case media.H265:
		return h265Size(b)
	}
	return 0, 0, false
}

// RFC 6386 §9.1
func vp8Size(b []byte) (width, height int, ok bool) {
	var p codecs.VP8Packet
	frame, err := p.Unmarshal(b)
	if err != nil || len(frame) < 10 || frame[3] != 0x9d || frame[4] != 1 || frame[5] != 0x2a {
		return 0, 0, false
	}
	return int(binary.LittleEndian.Uint16(frame[6:]) & 0x3fff), int(binary.LittleEndian.Uint16(frame[8:]) & 0x3fff), true
}

// RFC 9628 §4.2.1: the scalability structure tells of every spatial layer; without one the frame's own header counts.
func vp9Size(b []byte) (width, height int, ok bool) {
	var p codecs.VP9Packet
	frame, err := p.Unmarshal(b)
	if err != nil {
		return 0, 0, false
	}
	if len(p.Width) > 0 && len(p.Height) > 0 {
		return int(slices.Max(p.Width)), int(slices.Max(p.Height)), true
	}
	var h vp9.Header
	if h.Unmarshal(frame) != nil || h.FrameSize == nil {
		return 0, 0, false
	}
	return h.Width(), h.Height(), true
}

// The sequence header is the first OBU of a new coded video sequence (AV1 RTP §4.4).
func av1Size(b []byte) (width, height int, ok bool) {
	if len(b) < 3 {
		return 0, 0, false
	}
	obu := b[1:]
	if count := b[0] >> 4 & 3; count != 1 { // W: the last of count elements has no length field
		var size av1.LEB128
		n, err := size.Unmarshal(obu)
		if err != nil || int(size) > len(obu)-n || size == 0 {
			return 0, 0, false
		}
		obu = obu[n : n+int(size)]
	}
	var h av1.SequenceHeader
	if av1.OBUType(obu[0]>>3&15) != av1.OBUTypeSequenceHeader || h.Unmarshal(obu) != nil {
		return 0, 0, false
	}
	return h.Width(), h.Height(), true
}

func h265Size(b []byte) (width, height int, ok bool) {
	for nalu := range h265Units(b) {
		if h265.NALUType(nalu[0]>>1&0x3f) != h265.NALUType_SPS_NUT {
			continue
		}
		var s h265.SPS
		if s.Unmarshal(nalu) == nil {
			return s.Width(), s.Height(), true
		}
	}
	return 0, 0, false
}
