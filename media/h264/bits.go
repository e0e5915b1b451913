package h264

// headLen is how many payload bytes of a NAL unit a bits reader looks at: enough for the fields of a slice header up to
// pic_order_cnt_lsb at their largest, so that reading needs no memory beyond a small array.
const headLen = 40

// bitReader reads the first bits of a NAL unit's payload, emulation prevention bytes removed (H.264 §7.4.1).
// Reading past the end gives zeros and makes ok false.
type bitReader struct {
	buf  [headLen]byte
	n    int // bits in buf
	pos  int
	fail bool
}

func newBits(payload []byte) bitReader {
	var r bitReader
	zeros, k := 0, 0
	for _, b := range payload {
		if k == headLen {
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
		r.buf[k] = b
		k++
	}
	r.n = 8 * k
	return r
}

func (r *bitReader) ok() bool { return !r.fail }

// u reads an n-bit number, n ≤ 32.
func (r *bitReader) u(n int) uint32 {
	if r.pos+n > r.n {
		r.fail, r.pos = true, r.n
		return 0
	}
	var v uint32
	for range n {
		v = v<<1 | uint32(r.buf[r.pos>>3]>>(7-r.pos&7)&1)
		r.pos++
	}
	return v
}

// ue reads an Exp-Golomb number (H.264 §9.1).
func (r *bitReader) ue() uint32 {
	zeros := 0
	for r.pos < r.n && r.u(1) == 0 {
		zeros++
	}
	if r.fail || zeros > 31 || r.pos+zeros > r.n {
		r.fail = true
		return 0
	}
	return 1<<zeros - 1 + r.u(zeros)
}
