package h264

import "math/bits"

// headLen is how many payload bytes of a NAL unit are looked at for a slice header's first fields: enough for those up to
// pic_order_cnt_lsb at their largest.
const headLen = 40

// unescape removes emulation prevention bytes (H.264 §7.4.1) from payload into dst, as far as dst has room.
func unescape(dst, payload []byte) []byte {
	zeros := 0
	for _, b := range payload {
		if len(dst) == cap(dst) {
			break
		}
		if zeros >= 2 && b == 3 {
			zeros = 0
			continue
		}
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
		dst = append(dst, b)
	}
	return dst
}

// escape appends payload to dst with emulation prevention bytes.
func escape(dst, payload []byte) []byte {
	zeros := 0
	for _, b := range payload {
		if zeros >= 2 && b <= 3 {
			dst, zeros = append(dst, 3), 0
		}
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
		dst = append(dst, b)
	}
	return dst
}

// A bitReader reads a NAL unit's unescaped payload. Reading past the end gives zeros and makes ok false.
type bitReader struct {
	buf  []byte
	pos  int
	fail bool
}

func (r *bitReader) ok() bool  { return !r.fail }
func (r *bitReader) left() int { return 8*len(r.buf) - r.pos }

// u reads an n-bit number, n ≤ 32.
func (r *bitReader) u(n int) uint32 {
	if n > r.left() || n < 0 {
		r.fail, r.pos = true, 8*len(r.buf)
		return 0
	}
	var v uint32
	for range n {
		v = v<<1 | uint32(r.buf[r.pos>>3]>>(7-r.pos&7)&1)
		r.pos++
	}
	return v
}

// ue reads an unsigned Exp-Golomb number (H.264 §9.1).
func (r *bitReader) ue() uint32 {
	zeros := 0
	for r.left() > 0 && r.u(1) == 0 {
		zeros++
	}
	if zeros > 31 || zeros > r.left() {
		r.fail = true
		return 0
	}
	return 1<<zeros - 1 + r.u(zeros)
}

// se reads a signed Exp-Golomb number (H.264 §9.1.1).
func (r *bitReader) se() int32 {
	v := r.ue()
	if v&1 == 1 {
		return int32(v/2 + 1)
	}
	return -int32(v / 2)
}

// A BitWriter appends bits, the highest first, as the syntax of H.264 and of H.265 does. The zero value is empty.
type BitWriter struct {
	buf []byte
	n   int
}

// U appends the lowest n bits of v.
func (w *BitWriter) U(n int, v uint32) { w.u(n, v) }

// Aligned returns what was written, its last byte filled with a one and zeros where it is not whole (sei_payload, H.264 §7.3.2.3.1). It
// is the BitWriter's memory.
func (w *BitWriter) Aligned() []byte {
	if w.n&7 != 0 {
		w.u(1, 1)
	}
	return w.buf
}

func (w *BitWriter) u(n int, v uint32) {
	for i := n - 1; i >= 0; i-- {
		if w.n&7 == 0 {
			w.buf = append(w.buf, 0)
		}
		w.buf[w.n>>3] |= byte(v>>i&1) << (7 - w.n&7)
		w.n++
	}
}

func (w *BitWriter) ue(v uint32) {
	n := bits.Len32(v + 1)
	w.u(n-1, 0)
	w.u(n, v+1)
}

// copy appends the bits from to to-1 of buf.
func (w *BitWriter) copy(buf []byte, from, to int) {
	r := bitReader{buf: buf, pos: from}
	for ; from < to; from++ {
		w.u(1, r.u(1))
	}
}
