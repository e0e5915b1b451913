package h264

import "bytes"

// maxSets bounds how many parameter sets of a kind a stream can make us keep: ids run to 31 for SPS and 255 for PPS (H.264
// §7.4.2), real encoders use one of each, or a few PPS.
const maxSets = 32

// A ParameterSets remembers a stream's parameter sets and puts them before IDR pictures that come without, so that decoding
// can begin at each of them. The zero value is ready. One goroutine uses it.
type ParameterSets struct {
	sps, pps []set
}

type set struct {
	id   uint32
	nalu []byte
}

// Learn remembers copies of the parameter sets in the access unit and tells whether any is new or different.
func (s *ParameterSets) Learn(au []byte) (changed bool) {
	for nalu := range NALUs(au) {
		switch TypeOf(nalu) {
		case SPS:
			changed = s.learnSPS(nalu) || changed
		case PPS:
			changed = s.learnPPS(nalu) || changed
		}
	}
	return changed
}

func (s *ParameterSets) learnSPS(nalu []byte) bool {
	id, ok := spsID(nalu)
	return ok && learn(&s.sps, id, nalu)
}

func (s *ParameterSets) learnPPS(nalu []byte) bool {
	id, ok := ppsID(nalu)
	return ok && learn(&s.pps, id, nalu)
}

func learn(sets *[]set, id uint32, nalu []byte) bool {
	for i := range *sets {
		if have := &(*sets)[i]; have.id == id {
			if bytes.Equal(have.nalu, nalu) {
				return false
			}
			have.nalu = bytes.Clone(nalu)
			return true
		}
	}
	if len(*sets) == maxSets {
		return false
	}
	*sets = append(*sets, set{id: id, nalu: bytes.Clone(nalu)})
	return true
}

// Complete tells whether both an SPS and a PPS are known.
func (s *ParameterSets) Complete() bool { return len(s.sps) > 0 && len(s.pps) > 0 }

// SPS returns the first sequence parameter set without start code, nil when none is known. The caller does not write to it.
func (s *ParameterSets) SPS() []byte {
	if len(s.sps) == 0 {
		return nil
	}
	return s.sps[0].nalu
}

// PPS returns the first picture parameter set without start code, nil when none is known. The caller does not write to it.
func (s *ParameterSets) PPS() []byte {
	if len(s.pps) == 0 {
		return nil
	}
	return s.pps[0].nalu
}

// Reset forgets all parameter sets.
func (s *ParameterSets) Reset() { *s = ParameterSets{} }

// Ensure returns au itself when it needs nothing: it holds no IDR picture, or it has parameter sets of its own, or none are
// known. Else it returns a new access unit with the parameter sets known so far before the first slice (and before SEI, but
// after an access unit delimiter: H.264 §7.4.1.2.3).
func (s *ParameterSets) Ensure(au []byte) []byte {
	if !s.Complete() {
		return au
	}
	var hasSPS, hasPPS, hasIDR bool
	for nalu := range NALUs(au) {
		switch TypeOf(nalu) {
		case SPS:
			hasSPS = true
		case PPS:
			hasPPS = true
		case IDR:
			hasIDR = true
		}
	}
	if !hasIDR || hasSPS && hasPPS {
		return au
	}
	size := len(au)
	for _, p := range s.sps {
		size += len(longStartCode) + len(p.nalu)
	}
	for _, p := range s.pps {
		size += len(longStartCode) + len(p.nalu)
	}
	out, done := make([]byte, 0, size+16), false
	for nalu := range NALUs(au) {
		t := TypeOf(nalu)
		if !done && t != AUD {
			for _, p := range s.sps {
				out = Append(out, p.nalu)
			}
			for _, p := range s.pps {
				out = Append(out, p.nalu)
			}
			done = true
		}
		if t != SPS && t != PPS {
			out = Append(out, nalu)
		}
	}
	return out
}

// spsID reads seq_parameter_set_id, which follows three fixed bytes (H.264 §7.3.2.1.1).
func spsID(nalu []byte) (uint32, bool) {
	if len(nalu) < 5 {
		return 0, false
	}
	var head [headLen]byte
	r := bitReader{buf: unescape(head[:0], nalu[4:])}
	id := r.ue()
	return id, r.ok() && id < 32
}

// ppsID reads pic_parameter_set_id (H.264 §7.3.2.2).
func ppsID(nalu []byte) (uint32, bool) {
	if len(nalu) < 2 {
		return 0, false
	}
	var head [headLen]byte
	r := bitReader{buf: unescape(head[:0], nalu[1:])}
	id := r.ue()
	return id, r.ok() && id < 256
}
