package h264

import (
	"bytes"
	"iter"
)

// A Type is a NAL unit type (H.264 table 7-1).
type Type uint8

// The types that Gantry looks at.
const (
	NonIDR Type = 1
	IDR    Type = 5
	SEI    Type = 6
	SPS    Type = 7
	PPS    Type = 8
	AUD    Type = 9
)

// TypeOf returns the type of a NAL unit, 0 for an empty one.
func TypeOf(nalu []byte) Type {
	if len(nalu) == 0 {
		return 0
	}
	return Type(nalu[0] & 0x1f)
}

// slice tells whether the NAL unit holds (part of) a coded picture: types 1 to 5.
func (t Type) slice() bool { return t >= NonIDR && t <= IDR }

var (
	startCode     = []byte{0, 0, 1}
	longStartCode = []byte{0, 0, 0, 1}
)

// NALUs walks the NAL units of an Annex B byte stream, without their start codes and without the zero bytes that may follow
// each (H.264 B.1.1). The slices share au's memory. Bytes before the first start code and empty units are left out.
func NALUs(au []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := bytes.Index(au, startCode)
		if i < 0 {
			return
		}
		rest := au[i+len(startCode):]
		for {
			nalu := rest
			next := bytes.Index(rest, startCode)
			if next >= 0 {
				nalu, rest = rest[:next:next], rest[next+len(startCode):]
			}
			for len(nalu) > 0 && nalu[len(nalu)-1] == 0 {
				nalu = nalu[:len(nalu)-1]
			}
			if len(nalu) > 0 && !yield(nalu) || next < 0 {
				return
			}
		}
	}
}

// Append appends a NAL unit with a start code to an Annex B byte stream.
func Append(dst, nalu []byte) []byte {
	return append(append(dst, longStartCode...), nalu...)
}

// Join returns an access unit of NAL units, in memory of its own.
func Join(nalus [][]byte) []byte {
	size := 0
	for _, n := range nalus {
		size += len(n) + 4
	}
	au := make([]byte, 0, size)
	for _, n := range nalus {
		au = Append(au, n)
	}
	return au
}

// HasIDR tells whether the access unit holds an IDR picture, at which decoding can begin.
func HasIDR(au []byte) bool {
	for nalu := range NALUs(au) {
		if t := TypeOf(nalu); t.slice() {
			return t == IDR // all slices of a picture are IDR slices or none is (H.264 §7.4.1.2.4)
		}
	}
	return false
}

// Slices returns the number of slices in the access unit.
func Slices(au []byte) int {
	n := 0
	for nalu := range NALUs(au) {
		if TypeOf(nalu).slice() {
			n++
		}
	}
	return n
}
