package media

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A FourCC names a pixel layout as V4L2 does: four ASCII characters, the first in the low byte.
type FourCC uint32

// NewFourCC packs a four-character code such as "NV12". It panics on any other length: codes are written in the source.
func NewFourCC(s string) FourCC {
	if len(s) != 4 {
		panic("media: a FourCC has four characters: " + s)
	}
	return FourCC(s[0]) | FourCC(s[1])<<8 | FourCC(s[2])<<16 | FourCC(s[3])<<24
}

// String returns the four characters, without trailing spaces.
func (c FourCC) String() string {
	b := []byte{byte(c), byte(c >> 8), byte(c >> 16), byte(c >> 24)}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == 0) {
		b = b[:len(b)-1]
	}
	return string(b)
}

// Pixel layouts, by their V4L2 codes.
var (
	YU12 = NewFourCC("YU12") // I420: planes Y, U, V; 4:2:0
	NV12 = NewFourCC("NV12") // planes Y, UV interleaved; 4:2:0
	NV16 = NewFourCC("NV16") // planes Y, UV interleaved; 4:2:2
	NV24 = NewFourCC("NV24") // planes Y, UV interleaved; 4:4:4
	YUYV = NewFourCC("YUYV") // packed Y U Y V; 4:2:2
	UYVY = NewFourCC("UYVY") // packed U Y V Y; 4:2:2
	RGB3 = NewFourCC("RGB3") // packed R G B
	BGR3 = NewFourCC("BGR3") // packed B G R
	MJPG = NewFourCC("MJPG") // one JPEG picture a frame

	// Ten bits a sample, in the high bits of little-endian words of 16.
	P010 = NewFourCC("P010") // planes Y, UV interleaved; 4:2:0
	Y210 = NewFourCC("Y210") // packed Y U Y V; 4:2:2
)

// Depth returns the bits of a sample: 10 or 8.
func (c FourCC) Depth() int {
	if c == P010 || c == Y210 {
		return 10
	}
	return 8
}

// A Rational is a fraction, as rates and frame intervals are given.
type Rational struct{ Num, Den int }

// Float returns the value, 0 when the denominator is 0.
func (r Rational) Float() float64 {
	if r.Den == 0 {
		return 0
	}
	return float64(r.Num) / float64(r.Den)
}

// Interval returns the time between two pictures at rate r, 0 for an unknown rate.
func (r Rational) Interval() time.Duration {
	if r.Num == 0 {
		return 0
	}
	return time.Duration(int64(time.Second) * int64(r.Den) / int64(r.Num))
}

// String returns "30" or "30000/1001".
func (r Rational) String() string {
	if r.Den == 1 {
		return fmt.Sprint(r.Num)
	}
	return fmt.Sprintf("%d/%d", r.Num, r.Den)
}

// MarshalText writes what String returns.
func (r Rational) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "30", "30000/1001", or a decimal such as "29.97", which stands for the NTSC rate that it rounds.
func (r *Rational) UnmarshalText(text []byte) error {
	s := string(text)
	wrong := fmt.Errorf("%q is not a rate such as 30, 29.97 or 30000/1001", s)
	const limit = 1 << 30
	if num, den, ok := strings.Cut(s, "/"); ok {
		n, err1 := strconv.Atoi(num)
		d, err2 := strconv.Atoi(den)
		if err1 != nil || err2 != nil || n < 0 || d <= 0 || n > limit || d > limit {
			return wrong
		}
		*r = Rational{n, d}
		return nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= limit {
		*r = Rational{n, 1}
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1e6) {
		return wrong
	}
	if n := math.Ceil(f); math.Abs(f-n/1.001) < 0.006 { // 23.976, 29.97, 59.94 and their other spellings
		*r = Rational{int(n) * 1000, 1001}
		return nil
	}
	*r = Rational{int(math.Round(f * 1000)), 1000}
	return nil
}

// ColourMatrix is the YCbCr matrix of ITU-T H.273 table 4.
type ColourMatrix uint8

// The values that capture devices give.
const (
	MatrixUnspecified ColourMatrix = iota
	MatrixBT601
	MatrixBT709
	MatrixBT2020
	MatrixRGB
)

// ColourTransfer is the transfer characteristic of ITU-T H.273 table 3, where it is not the one that goes with the matrix.
type ColourTransfer uint8

// What the matrix implies, and the two of high dynamic range (ITU-R BT.2100).
const (
	TransferSDR ColourTransfer = iota // gamma
	TransferPQ                        // SMPTE ST 2084
	TransferHLG                       // ARIB STD-B67
)

// ColourRange tells whether 8-bit luma runs over 16–235 or 0–255.
type ColourRange uint8

// The two ranges of ITU-T H.273's VideoFullRangeFlag.
const (
	RangeUnspecified ColourRange = iota
	RangeLimited
	RangeFull
)

// FieldOrder tells how a picture's lines were scanned.
type FieldOrder uint8

// Progressive pictures and the two orders of interleaved fields.
const (
	Progressive FieldOrder = iota
	TopFieldFirst
	BottomFieldFirst
)

// A VideoFormat describes raw pictures. It is comparable; two equal formats need no new encoder.
type VideoFormat struct {
	Width, Height int // pixels shown
	FourCC        FourCC
	Rate          Rational // pictures per second
	Matrix        ColourMatrix
	Range         ColourRange
	Transfer      ColourTransfer
	Field         FieldOrder
}

// String returns, for instance, "1280x720 NV12 30 fps".
func (f VideoFormat) String() string {
	return fmt.Sprintf("%dx%d %v %v fps", f.Width, f.Height, f.FourCC, f.Rate)
}

// Packed returns the planes of one picture of format f lying one behind the other in memory without padding, and the total
// size in bytes. Odd widths and heights round chroma up. It returns nil for compressed or unknown layouts.
func (f VideoFormat) Packed() ([]Plane, int) {
	w, h := f.Width, f.Height
	cw, ch := (w+1)/2, (h+1)/2
	var strides, heights []int
	switch f.FourCC {
	case YU12:
		strides, heights = []int{w, cw, cw}, []int{h, ch, ch}
	case NV12:
		strides, heights = []int{w, 2 * cw}, []int{h, ch}
	case NV16:
		strides, heights = []int{w, 2 * cw}, []int{h, h}
	case NV24:
		strides, heights = []int{w, 2 * w}, []int{h, h}
	case YUYV, UYVY:
		strides, heights = []int{4 * cw}, []int{h}
	case RGB3, BGR3:
		strides, heights = []int{3 * w}, []int{h}
	case P010:
		strides, heights = []int{2 * w, 4 * cw}, []int{h, ch}
	case Y210:
		strides, heights = []int{8 * cw}, []int{h}
	default:
		return nil, 0
	}
	planes := make([]Plane, len(strides))
	total := 0
	for i := range planes {
		planes[i] = Plane{FD: -1, Offset: total, Stride: strides[i], Len: strides[i] * heights[i]}
		total += planes[i].Len
	}
	return planes, total
}

// An AudioFormat describes raw sound: interleaved 32-bit float samples in -1…1.
type AudioFormat struct {
	Rate     int // samples per second and channel
	Channels int
}

// String returns, for instance, "48000 Hz 2 ch".
func (f AudioFormat) String() string { return fmt.Sprintf("%d Hz %d ch", f.Rate, f.Channels) }
