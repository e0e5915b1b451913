package h264

// recoveryPoint is the payload type of a recovery point message (H.264 §D.1.8).
const recoveryPoint = 6

// RecoveryPoint tells whether the access unit says that decoding can begin there although it holds no IDR picture: after a moment
// the pictures are right (H.264 §D.2.8). Encoders that refresh in parts (intra refresh) or with open GOPs write it.
func RecoveryPoint(au []byte) bool {
	for nalu := range NALUs(au) {
		switch t := TypeOf(nalu); {
		case t == SEI && IsRecoveryPoint(nalu):
			return true
		case t.slice():
			return false
		}
	}
	return false
}

// IsRecoveryPoint tells whether a SEI NAL unit has a recovery point message.
func IsRecoveryPoint(nalu []byte) bool {
	if TypeOf(nalu) != SEI {
		return false
	}
	b := nalu[1:] // emulation prevention cannot stand in the headers of messages as short as these
	number := func() (n int) {
		for len(b) > 0 {
			v := b[0]
			b = b[1:]
			if n += int(v); v != 0xff {
				break
			}
		}
		return n
	}
	for len(b) > 2 { // a message has a type and a size; one byte is the trailing bits
		kind, size := number(), number()
		if kind == recoveryPoint {
			return size > 0 && size <= len(b)
		}
		if size > len(b) {
			return false
		}
		b = b[size:]
	}
	return false
}
