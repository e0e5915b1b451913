package h264

import (
	mch264 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
)

// An Order watches a stream for pictures that are not coded in display order. WebRTC shows pictures as they come, so with
// B-frames a viewer sees backward jumps. The zero value is ready. One goroutine uses it.
type Order struct {
	sps    *mch264.SPS
	msb    int64 // PicOrderCntMsb of the last reference picture (H.264 §8.2.1.1)
	lsb    int64
	newest int64 // highest POC since the last IDR picture
}

// A Picture is what Order finds out about one access unit.
type Picture struct {
	B         bool // holds a B slice
	Reordered bool // is shown before a picture that was coded earlier
}

// Observe takes the next access unit, in coding order.
func (o *Order) Observe(au []byte) Picture {
	var p Picture
	first := true
	var head [headLen]byte
	for nalu := range NALUs(au) {
		switch t := TypeOf(nalu); {
		case t == SPS:
			if sps, _, err := parseSPS(nalu); err == nil {
				o.sps = sps
			}
		case t == NonIDR || t == IDR:
			r := bitReader{buf: unescape(head[:0], nalu[1:])}
			r.ue() // first_mb_in_slice
			kind := r.ue() % 5
			r.ue() // pic_parameter_set_id
			if !r.ok() {
				continue
			}
			p.B = p.B || kind == 1
			if first {
				first = false
				p.Reordered = o.picture(&r, t == IDR, nalu[0]&0x60 != 0)
			}
		}
	}
	return p
}

// picture reads on in the slice header (H.264 §7.3.3) to the picture order count and tells whether it runs backwards.
func (o *Order) picture(r *bitReader, idr, reference bool) bool {
	s := o.sps
	if s == nil || s.PicOrderCntType != 0 {
		return false // type 2 is in order by definition; nobody uses type 1
	}
	if s.SeparateColourPlaneFlag {
		r.u(2)
	}
	r.u(int(s.Log2MaxFrameNumMinus4) + 4)
	if !s.FrameMbsOnlyFlag && r.u(1) == 1 {
		r.u(1) // bottom_field_flag
	}
	if idr {
		r.ue() // idr_pic_id
		o.msb, o.lsb = 0, 0
	}
	width := int(s.Log2MaxPicOrderCntLsbMinus4) + 4
	if width > 16 { // H.264 §7.4.2.1.1
		return false
	}
	lsb, span := int64(r.u(width)), int64(1)<<width
	if !r.ok() {
		return false
	}
	msb := o.msb
	switch {
	case lsb < o.lsb && o.lsb-lsb >= span/2:
		msb += span
	case lsb > o.lsb && lsb-o.lsb > span/2:
		msb -= span
	}
	if reference {
		o.msb, o.lsb = msb, lsb
	}
	poc := msb + lsb
	if idr || poc > o.newest {
		o.newest = poc
		return false
	}
	return poc < o.newest
}
