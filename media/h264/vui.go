package h264

import (
	"errors"
	"math/bits"
)

var errSPS = errors.New("rewrite SPS: not a sequence parameter set")

// rewriteVUI returns a copy of a sequence parameter set NAL unit with other vui_parameters (H.264 §E.1.1). Where the set has them, edit
// reads from their beginning on and writes what replaces what it has read; the rest is copied. Where it has none, edit writes all
// up to bitstream_restriction_flag, and the new ones also promise that no picture is reordered.
func rewriteVUI(sps []byte, edit func(r *bitReader, w *BitWriter, present bool) error) ([]byte, error) {
	if TypeOf(sps) != SPS {
		return nil, errSPS
	}
	r := &bitReader{buf: unescape(make([]byte, 0, len(sps)), sps[1:])}
	refs := skipToVUI(r)
	before := r.pos
	end := lastBit(r.buf)
	present := r.u(1) == 1
	if !r.ok() || before >= end {
		return nil, errSPS
	}
	w := new(BitWriter)
	w.copy(r.buf, 0, before)
	w.u(1, 1)
	if err := edit(r, w, present); err != nil {
		return nil, err
	}
	if present {
		if !r.ok() || r.pos > end {
			return nil, errSPS
		}
		w.copy(r.buf, r.pos, end)
	} else {
		writeRestriction(w, refs)
	}
	w.u(1, 1) // rbsp_stop_one_bit
	out := escape([]byte{sps[0]}, w.buf)
	if _, err := ParseSPS(out); err != nil { // it ended before its stop bit
		return nil, errSPS
	}
	return out, nil
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
func writeRestriction(w *BitWriter, refs uint32) {
	w.u(1, 1) // bitstream_restriction_flag
	w.u(1, 1) // motion vectors over picture boundaries
	for _, v := range []uint32{0, 0, 16, 16, 0, refs} {
		w.ue(v)
	}
}

// skipSignalType reads video_signal_type_present_flag and what follows from it.
func skipSignalType(r *bitReader) {
	if r.u(1) == 1 {
		r.u(4)
		if r.u(1) == 1 {
			r.u(24)
		}
	}
}

// skipToVUI reads a sequence parameter set (H.264 §7.3.2.1.1) up to vui_parameters_present_flag and returns max_num_ref_frames.
func skipToVUI(r *bitReader) (refs uint32) {
	profile := r.u(8)
	r.u(16)
	r.ue() // seq_parameter_set_id
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		chroma := r.ue()
		if chroma == 3 {
			r.u(1)
		}
		r.ue()
		r.ue()
		r.u(1)
		if r.u(1) == 1 {
			lists := 8
			if chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.u(1) == 1 {
					skipScalingList(r, i)
				}
			}
		}
	}
	r.ue() // log2_max_frame_num_minus4
	switch r.ue() {
	case 0:
		r.ue()
	case 1:
		r.u(1)
		r.se()
		r.se()
		for n := min(r.ue(), 255); n > 0; n-- {
			r.se()
		}
	}
	refs = r.ue()
	r.u(1)
	r.ue() // width
	r.ue() // height
	if r.u(1) == 0 {
		r.u(1)
	}
	r.u(1)
	if r.u(1) == 1 { // cropping
		for range 4 {
			r.ue()
		}
	}
	return min(refs, 16)
}

// skipScalingList reads scaling_list (H.264 §7.3.2.1.1.1).
func skipScalingList(r *bitReader, i int) {
	size := 16
	if i >= 6 {
		size = 64
	}
	last, next := int32(8), int32(8)
	for range size {
		if next != 0 {
			next = (last + r.se() + 256) % 256
		}
		if next != 0 {
			last = next
		}
	}
}

// lastBit returns the position of the stop bit.
func lastBit(buf []byte) int {
	for i := len(buf) - 1; i >= 0; i-- {
		if buf[i] != 0 {
			return 8*i + 7 - bits.TrailingZeros8(buf[i])
		}
	}
	return 0
}
