package h264

import "errors"

var errTiming = errors.New("rewrite SPS: it has buffering parameters or picture timing of its own")

// SetTiming returns a copy of a sequence parameter set NAL unit that says that picture timing messages follow (pic_struct_present_flag,
// H.264 §E.2.1), which carry timecodes. It is an error where the set has buffering parameters, on which the messages' form depends, or
// says so already, as the encoder then writes them itself.
func SetTiming(sps []byte) ([]byte, error) {
	return rewriteVUI(sps, func(r *bitReader, w *BitWriter, present bool) error {
		if !present {
			w.u(7, 0) // aspect ratio, overscan, signal type, chroma location, timing, both HRD
			w.u(1, 1) // pic_struct_present_flag
			return nil
		}
		from := r.pos
		skipToHRD(r)
		buffering := r.u(2) != 0 // nal_, vcl_hrd_parameters_present_flag
		w.copy(r.buf, from, r.pos)
		if buffering || r.u(1) == 1 {
			return errTiming
		}
		w.u(1, 1)
		return nil
	})
}

// skipToHRD reads vui_parameters (H.264 §E.1.1) up to nal_hrd_parameters_present_flag.
func skipToHRD(r *bitReader) {
	skipAspect(r)
	skipSignalType(r)
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
