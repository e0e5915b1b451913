package h264

import "gantry/media"

// SetColour returns a copy of a sequence parameter set NAL unit that says the pictures' matrix, range and transfer (H.264 §E.2.1), for
// encoders that leave it out: players then guess, by picture size, and red turns out orange. Where the set has no VUI at all,
// the new one also promises that no picture is reordered.
func SetColour(sps []byte, m media.ColourMatrix, rng media.ColourRange, t media.ColourTransfer) ([]byte, error) {
	return rewriteVUI(sps, func(r *bitReader, w *BitWriter, present bool) error {
		if !present {
			w.u(2, 0) // aspect ratio, overscan
			writeSignalType(w, m, rng, t)
			w.u(5, 0) // chroma location, timing, both HRD, pic_struct
			return nil
		}
		from := r.pos
		skipAspect(r)
		w.copy(r.buf, from, r.pos)
		skipSignalType(r) // what it said is replaced
		writeSignalType(w, m, rng, t)
		return nil
	})
}

// writeSignalType writes video_signal_type_present_flag and what follows from it.
func writeSignalType(w *BitWriter, m media.ColourMatrix, rng media.ColourRange, t media.ColourTransfer) {
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
