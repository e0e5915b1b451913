package h264

import "errors"

var errTiming = errors.New("rewrite SPS: it has buffering parameters or picture timing of its own")

// SetTiming returns a copy of a sequence parameter set NAL unit that says that picture timing messages follow (pic_struct_present_flag,
// H.264 §E.2.1), which carry timecodes. It is an error where the set has buffering parameters, on which the messages' form depends, or
// says so already, as the encoder then writes them itself.
func SetTiming(sps []byte) ([]byte, error) {
	if TypeOf(sps) != SPS {
		return nil, errSPS
	}
	r := &bitReader{buf: unescape(make([]byte, 0, len(sps)), sps[1:])}
	refs := skipToVUI(r)
	before := r.pos
	end := lastBit(r.buf)
	hasVUI := r.u(1) == 1
	if !r.ok() || before >= end {
		return nil, errSPS
	}
	w := new(bitWriter)
	w.copy(r.buf, 0, before)
	w.u(1, 1)
	if hasVUI {
		from := r.pos
		skipToHRD(r)
		buffering := r.u(2) != 0 // nal_, vcl_hrd_parameters_present_flag
		w.copy(r.buf, from, r.pos)
		if buffering || r.u(1) == 1 {
			return nil, errTiming
		}
		w.u(1, 1)
		if !r.ok() || r.pos > end {
			return nil, errSPS
		}
		w.copy(r.buf, r.pos, end)
	} else {
		w.u(7, 0) // aspect ratio, overscan, signal type, chroma location, timing, both HRD
		w.u(1, 1) // pic_struct_present_flag
		writeRestriction(w, refs)
	}
	w.u(1, 1) // rbsp_stop_one_bit
	out := escape([]byte{sps[0]}, w.buf)
	if _, err := ParseSPS(out); err != nil { // it ended before its stop bit
		return nil, errSPS
	}
	return out, nil
}

// skipToHRD reads vui_parameters (H.264 §E.1.1) up to nal_hrd_parameters_present_flag.
func skipToHRD(r *bitReader) {
	skipAspect(r)
	if r.u(1) == 1 { // video_signal_type_present_flag
		r.u(4)
		if r.u(1) == 1 {
			r.u(24)
		}
	}
	if r.u(1) == 1 { // chroma_loc_info_present_flag
		r.ue()
		r.ue()
	}
	if r.u(1) == 1 { // timing_info_present_flag
		r.u(32)
		r.u(32)
		r.u(1)
	}
}

// skipAspect reads the aspect ratio and overscan, with which vui_parameters begins.
func skipAspect(r *bitReader) {
	if r.u(1) == 1 && r.u(8) == 255 { // aspect_ratio_idc: Extended_SAR
		r.u(32)
	}
	if r.u(1) == 1 { // overscan_info_present_flag
		r.u(1)
	}
}

// writeRestriction promises that no picture is reordered.
func writeRestriction(w *bitWriter, refs uint32) {
	w.u(1, 1) // bitstream_restriction_flag
	w.u(1, 1) // motion vectors over picture boundaries
	for _, v := range []uint32{0, 0, 16, 16, 0, refs} {
		w.ue(v)
	}
}
