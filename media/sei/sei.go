// Package sei writes and reads supplemental enhancement information (H.264 §7.3.2.3, H.265 §7.3.2.4) in Annex B access units: the
// wall time at which a picture was captured, as an unregistered user data message or as a timecode.
//
// It knows no clock: callers bring the time. It looks at NAL unit headers and SEI payloads only.
package sei

import (
	"bytes"
	"encoding/binary"
	"time"

	"gantry/media"
)

// utcID is the UUID of the message that carries the time of capture: milliseconds since 1970 UTC, as 64 bits, big-endian. Streaming
// platforms that measure latency read and write the same.
var utcID = [16]byte{0x9a, 0x21, 0xf3, 0xbe, 0x31, 0xf0, 0x4b, 0x78, 0xb0, 0xbe, 0xc7, 0xf7, 0xdb, 0xb9, 0x72, 0x50}

const (
	userDataUnregistered = 5 // payloadType, H.264 §D.2.7
	utcSize              = len(utcID) + 8
)

// StampUTC returns au with a message that it was captured at t, before its first slice; au itself is not changed. Access units of
// codecs without SEI, and without a slice, come back as they are.
func StampUTC(codec media.Codec, au []byte, t time.Time) []byte {
	message := append(make([]byte, 0, utcSize), utcID[:]...)
	return insert(codec, au, userDataUnregistered, binary.BigEndian.AppendUint64(message, uint64(t.UnixMilli())))
}

// insert returns au with a message of less than 255 bytes before its first slice.
func insert(codec media.Codec, au []byte, kind byte, message []byte) []byte {
	if codec != media.H264 && codec != media.H265 {
		return au
	}
	at := firstSlice(codec, au)
	if at < 0 {
		return au
	}
	payload := append([]byte{kind, byte(len(message))}, message...)
	payload = append(payload, 0x80) // rbsp_trailing_bits
	out := make([]byte, 0, len(au)+48)
	out = append(out, au[:at]...)
	out = append(out, 0, 0, 0, 1)
	if codec == media.H264 {
		out = append(out, 6) // SEI
	} else {
		out = append(out, 39<<1, 1) // PREFIX_SEI_NUT, temporal layer 0
	}
	return append(escape(out, payload), au[at:]...)
}

// UTCOf returns the time that StampUTC wrote into au; of several the first.
func UTCOf(codec media.Codec, au []byte) (t time.Time, ok bool) {
	for nalu := range nalus(au) {
		kind, head := kindOf(codec, nalu)
		if kind == slice {
			return t, false
		}
		if kind != sei {
			continue
		}
		rest := unescape(nalu[head:])
		for len(rest) > 2 { // rbsp_trailing_bits are one byte
			var kind, size int
			kind, rest = number(rest)
			size, rest = number(rest)
			if size > len(rest) {
				break
			}
			if kind == userDataUnregistered && size >= utcSize && bytes.HasPrefix(rest, utcID[:]) {
				return time.UnixMilli(int64(binary.BigEndian.Uint64(rest[len(utcID):]))), true
			}
			rest = rest[size:]
		}
	}
	return t, false
}

// number reads a payloadType or payloadSize: bytes of 255, then the last (H.264 §7.3.2.3.1).
func number(b []byte) (n int, rest []byte) {
	for len(b) > 0 {
		n += int(b[0])
		last := b[0] != 255
		if b = b[1:]; last {
			break
		}
	}
	return n, b
}

type kind uint8

const (
	other kind = iota
	slice
	sei
)

// kindOf tells what a NAL unit is, and how long its header.
func kindOf(codec media.Codec, nalu []byte) (kind, int) {
	if len(nalu) == 0 {
		return other, 0
	}
	switch codec {
	case media.H264: // table 7-1
		switch t := nalu[0] & 0x1f; {
		case t >= 1 && t <= 5:
			return slice, 1
		case t == 6:
			return sei, 1
		}
	case media.H265: // table 7-1
		switch t := nalu[0] >> 1 & 0x3f; {
		case t < 32:
			return slice, 2
		case t == 39 && len(nalu) >= 2:
			return sei, 2
		}
	}
	return other, 0
}

var startCode = []byte{0, 0, 1}

// nalus walks the NAL units of an Annex B byte stream; what follows the last byte of one may be zeros.
func nalus(au []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for i := bytes.Index(au, startCode); i >= 0; {
			au = au[i+len(startCode):]
			i = bytes.Index(au, startCode)
			nalu := au
			if i >= 0 {
				nalu = au[:i]
			}
			if !yield(nalu) {
				return
			}
		}
	}
}

// firstSlice returns where the start code of the first slice begins, -1 for none.
func firstSlice(codec media.Codec, au []byte) int {
	for at := 0; ; {
		i := bytes.Index(au[at:], startCode)
		if i < 0 {
			return -1
		}
		begin := at + i
		at = begin + len(startCode)
		if k, _ := kindOf(codec, au[at:]); k == slice {
			if begin > 0 && au[begin-1] == 0 { // the long form
				begin--
			}
			return begin
		}
	}
}

// escape appends payload with emulation prevention (H.264 §7.4.1).
func escape(dst, payload []byte) []byte {
	zeros := 0
	for _, b := range payload {
		if zeros >= 2 && b <= 3 {
			dst, zeros = append(dst, 3), 0
		}
		dst = append(dst, b)
		if zeros++; b != 0 {
			zeros = 0
		}
	}
	return dst
}

func unescape(payload []byte) []byte {
	out, zeros := make([]byte, 0, len(payload)), 0
	for _, b := range payload {
		if zeros >= 2 && b == 3 {
			zeros = 0
			continue
		}
		out = append(out, b)
		if zeros++; b != 0 {
			zeros = 0
		}
	}
	return out
}
