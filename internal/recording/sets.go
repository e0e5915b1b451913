package recording

import (
	"bytes"

	"gantry/media"
	"gantry/media/h264"
)

// sets are a stream's parameter sets: vps is H.265's only.
type sets struct{ vps, sps, pps []byte }

func (s sets) complete(c media.Codec) bool {
	return len(s.sps) > 0 && len(s.pps) > 0 && (c != media.H265 || len(s.vps) > 0)
}

func (s sets) equal(t sets) bool {
	return bytes.Equal(s.vps, t.vps) && bytes.Equal(s.sps, t.sps) && bytes.Equal(s.pps, t.pps)
}

// part divides an access unit into its parameter sets and the rest; delimiters are left out.
func part(c media.Codec, au []byte) (s sets, rest [][]byte) {
	for n := range h264.NALUs(au) { // H.265 has the same byte stream format
		if len(n) == 0 {
			continue
		}
		kind := int(n[0] & 0x1f)
		if c == media.H265 {
			kind = 100 + int(n[0]>>1&0x3f)
		}
		switch kind {
		case 132:
			s.vps = n
		case 7, 133:
			s.sps = n
		case 8, 134:
			s.pps = n
		case 9, 135:
		default:
			rest = append(rest, n)
		}
	}
	return s, rest
}
