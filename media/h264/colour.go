package h264

import (
	"errors"
	"math/bits"

	"gantry/media"
)

var errSPS = errors.New("rewrite SPS: not a sequence parameter set")

// SetColour returns a copy of a sequence parameter set NAL unit that says the pictures' matrix, range and transfer (H.264 §E.2.1), for
// encoders that leave it out: players then guess, by picture size, and red turns out orange. Where the set has no VUI at all,
// the new one also promises that no picture is reordered.
func SetColour(sps []byte, m media.ColourMatrix, rng media.ColourRange, t media.ColourTransfer) ([]byte, error) {
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
		skipAspect(r)
		w.copy(r.buf, from, r.pos)
		if r.u(1) == 1 { // video_signal_type_present_flag: what it said is replaced
			r.u(4)
			if r.u(1) == 1 {
				r.u(24)
			}
		}
		if !r.ok() || r.pos > end {
			return nil, errSPS
		}
		writeSignalType(w, m, rng, t)
		w.copy(r.buf, r.pos, end)
	} else {
		w.u(2, 0) // aspect ratio, overscan
		writeSignalType(w, m, rng, t)
		w.u(5, 0) // chroma location, timing, both HRD, pic_struct
		writeRestriction(w, refs)
	}
	w.u(1, 1) // rbsp_stop_one_bit
	out := escape([]byte{sps[0]}, w.buf)
	if _, err := ParseSPS(out); err != nil { // it ended before its stop bit
		return nil, errSPS
	}
	return out, nil
}

// writeSignalType writes video_signal_type_present_flag and what follows from it.
func writeSignalType(w *bitWriter, m media.ColourMatrix, rng media.ColourRange, t media.ColourTransfer) {
	w.u(1, 1)
	w.u(3, 5) // video_format: unspecified
	full := uint32(0)
	if rng == media.RangeFull {
		full = 1
	}
	w.u(1, full)
	var primaries, transfer, matrix uint32
	switch m { // H.264 tables E-3 to E-5
	case media.MatrixBT601:
		primaries, transfer, matrix = 6, 6, 6
	case media.MatrixBT709:
		primaries, transfer, matrix = 1, 1, 1
	case media.MatrixBT2020:
		primaries, transfer, matrix = 9, 14, 9
	default:
		w.u(1, 0)
		return
	}
	switch t {
	case media.TransferPQ:
		transfer = 16
	case media.TransferHLG:
		transfer = 18
	}
	w.u(1, 1)
	w.u(8, primaries)
	w.u(8, transfer)
	w.u(8, matrix)
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
