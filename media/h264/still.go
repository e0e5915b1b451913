package h264

import "errors"

// A Still is a grey picture that an encoder is not needed for: where it has the colour of its paper, its macroblocks say "as
// beside"; elsewhere they hold their pixels as they are (I_PCM). Some kilobytes for paper with some words on it.
type Still struct {
	Width, Height int    // pixels, even
	Luma          []byte // of all whole macroblocks: ((Width+15)/16*16) × ((Height+15)/16*16)
	Paper         byte   // luma of the paper
}

// stillMacroblocks bounds a Still: what level 5.2 decodes.
const stillMacroblocks = 36864

// Macroblock types of I slices (H.264 table 7-11).
const (
	asAbove  = 1 // I_16x16_0_0_0: predicted from above, no residual
	asBeside = 2 // I_16x16_1_0_0: from the left
	pcm      = 25
)

// Encode returns the picture as an access unit in Annex B: parameter sets and an IDR picture in Constrained Baseline. Two in a
// row must differ in odd (H.264 §7.4.3, idr_pic_id).
func (s *Still) Encode(odd bool) ([]byte, error) {
	w, h := (s.Width+15)/16, (s.Height+15)/16
	if s.Width < 16 || s.Height < 16 || s.Width%2 != 0 || s.Height%2 != 0 || w*h > stillMacroblocks {
		return nil, errors.New("a still picture has an even width and height of 16 and more, and a size that level 5.2 takes")
	}
	if len(s.Luma) != w*h*256 {
		return nil, errors.New("a still picture has the luma of all its macroblocks")
	}
	out := Append(nil, s.sps(w, h))
	out = Append(out, stillPPS())
	return Append(out, s.slice(w, h, odd)), nil
}

// nalu ends a payload and makes a NAL unit of it.
func (w *BitWriter) nalu(header byte) []byte {
	w.u(1, 1)
	return escape([]byte{header}, w.buf)
}

func (s *Still) sps(w, h int) []byte {
	var b BitWriter
	b.u(8, 66)   // profile_idc: Baseline
	b.u(8, 0xc0) // and Constrained, and Main
	b.u(8, uint32(Level(s.Width, s.Height, 30, 0)))
	b.ue(0) // seq_parameter_set_id
	b.ue(0) // log2_max_frame_num_minus4
	b.ue(2) // pic_order_cnt_type: as decoded
	b.ue(1) // max_num_ref_frames
	b.u(1, 0)
	b.ue(uint32(w - 1))
	b.ue(uint32(h - 1))
	b.u(2, 3) // frame_mbs_only_flag, direct_8x8_inference_flag
	right, bottom := uint32(w*16-s.Width)/2, uint32(h*16-s.Height)/2
	if right+bottom > 0 {
		b.u(1, 1)
		b.ue(0)
		b.ue(right)
		b.ue(0)
		b.ue(bottom)
	} else {
		b.u(1, 0)
	}
	b.u(1, 0) // no VUI
	return b.nalu(0x67)
}

func stillPPS() []byte {
	var b BitWriter
	b.ue(0)   // pic_parameter_set_id
	b.ue(0)   // seq_parameter_set_id
	b.u(2, 0) // CAVLC, no order of fields
	b.ue(0)   // one slice group
	b.ue(0)
	b.ue(0)
	b.u(3, 0) // no weighted prediction
	b.ue(0)
	b.ue(0)
	b.ue(0)
	b.u(3, 4) // deblocking_filter_control_present_flag
	return b.nalu(0x68)
}

func (s *Still) slice(w, h int, odd bool) []byte {
	var b BitWriter
	b.ue(0)   // first_mb_in_slice
	b.ue(7)   // I
	b.ue(0)   // pic_parameter_set_id
	b.u(4, 0) // frame_num
	if odd {
		b.ue(1)
	} else {
		b.ue(0)
	}
	b.u(2, 0) // dec_ref_pic_marking
	b.ue(0)   // slice_qp_delta
	b.ue(1)   // no deblocking: paper stays paper
	raw := make([]bool, w*h)
	for y := range h {
		for x := range w {
			i := y*w + x
			left, above := x > 0, y > 0
			switch {
			case s.plain(w, x, y, 0, 0, 16, 16) && above && s.plain(w, x, y-1, 0, 15, 16, 16):
				b.ue(asAbove)
			case s.plain(w, x, y, 0, 0, 16, 16) && left && s.plain(w, x-1, y, 15, 0, 16, 16):
				b.ue(asBeside)
			default:
				raw[i] = true
				b.ue(pcm)
				s.pixels(&b, w, x, y)
				continue
			}
			b.ue(0) // chroma from its surroundings, which are grey
			b.ue(0) // mb_qp_delta
			// No coefficients; how that is written depends on the neighbours, of which I_PCM counts as 16 (H.264 §9.2.1).
			if left && raw[i-1] || above && raw[i-w] {
				b.u(6, 3)
			} else {
				b.u(1, 1)
			}
		}
	}
	return b.nalu(0x65)
}

// plain tells whether the part of macroblock x, y from column x0 and row y0 to before x1 and y1 is paper.
func (s *Still) plain(w, x, y, x0, y0, x1, y1 int) bool {
	for r := y0; r < y1; r++ {
		line := s.Luma[(y*16+r)*w*16+x*16:]
		for _, v := range line[x0:x1] {
			if v != s.Paper {
				return false
			}
		}
	}
	return true
}

// pixels writes a macroblock's 256 bytes of luma and 128 of grey chroma.
func (s *Still) pixels(b *BitWriter, w, x, y int) {
	b.n = len(b.buf) * 8 // pcm_alignment_zero_bit
	for r := range 16 {
		at := (y*16+r)*w*16 + x*16
		b.buf = append(b.buf, s.Luma[at:at+16]...)
	}
	for range 128 {
		b.buf = append(b.buf, 128)
	}
	b.n = len(b.buf) * 8
}
