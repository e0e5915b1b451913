package ingest

import (
	"slices"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"

	h264bytes "gantry/media/h264"
)

// parameterSets265 remembers a stream's newest VPS, SPS and PPS (ITU-T H.265 §7.4.2.4) and puts them before key frames that
// come without.
type parameterSets265 struct{ sets [3][]byte }

// ensure learns from nalus and returns whether decoding can begin at them, and au with what it lacks for that in front.
func (s *parameterSets265) ensure(nalus [][]byte, au []byte) (key bool, out []byte) {
	has := [3]bool{}
	for _, n := range nalus {
		if len(n) < 2 {
			continue
		}
		switch t := h265.NALUType(n[0] >> 1 & 0x3f); t {
		case h265.NALUType_VPS_NUT, h265.NALUType_SPS_NUT, h265.NALUType_PPS_NUT:
			i := t - h265.NALUType_VPS_NUT
			has[i] = true
			if string(s.sets[i]) != string(n) {
				s.sets[i] = append([]byte(nil), n...)
			}
		default:
			key = key || t >= h265.NALUType_BLA_W_LP && t <= h265.NALUType_CRA_NUT
		}
	}
	if !key || has == [3]bool{true, true, true} {
		return key, au
	}
	for i, set := range s.sets {
		if !has[i] && set != nil {
			out = h264bytes.Append(out, set)
		}
	}
	return key, append(out, au...)
}

func (s *parameterSets265) complete() bool {
	return s.sets[0] != nil && s.sets[1] != nil && s.sets[2] != nil
}

func size265(sps []byte) (width, height int, ok bool) {
	var p h265.SPS
	if len(sps) == 0 || p.Unmarshal(sps) != nil {
		return 0, 0, false
	}
	return p.Width(), p.Height(), true
}

// hasPicture265 tells whether one of nalus is a slice.
func hasPicture265(nalus [][]byte) bool {
	return slices.ContainsFunc(nalus, func(n []byte) bool { return len(n) > 1 && n[0]>>1&0x3f < byte(h265.NALUType_VPS_NUT) })
}
