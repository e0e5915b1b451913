package testsrc

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"time"
)

// A Mark is what a picture of this package says about itself to machines.
type Mark struct {
	Counter uint32    // pictures since Start; a gap is a lost picture
	Time    time.Time // capture time, UTC, in whole milliseconds
	Flash   bool      // within the first 100 ms of a UTC second
}

// ErrNoMark: the picture carries no mark of this package: it is another picture, or damaged beyond reading.
var ErrNoMark = errors.New("no readable mark in the picture")

// DecodeJS defines the JavaScript function gantryDecodeMark(imageData), which reads the mark from a canvas: it takes an
// ImageData of the whole picture and returns {counter, time, flash}, time in UTC milliseconds, or null.
//
//go:embed decode.js
var DecodeJS string

// The grid of cells, as the package's documentation draws it.
const (
	markColumns = 40
	markRows    = 3
	markTop     = 21 // in 24ths of the height
	markParts   = 24
	rowBits     = 36
	markVersion = 1
	markBytes   = 13 // version and flags, counter, time, CRC
	flagFlash   = 1
)

func (m Mark) pack() (b [markBytes]byte) {
	b[0] = markVersion << 4
	if m.Flash {
		b[0] |= flagFlash
	}
	binary.BigEndian.PutUint32(b[1:], m.Counter)
	ms := uint64(m.Time.UnixMilli())
	binary.BigEndian.PutUint16(b[5:], uint16(ms>>32))
	binary.BigEndian.PutUint32(b[7:], uint32(ms))
	binary.BigEndian.PutUint16(b[11:], crc16(b[:11]))
	return b
}

func crc16(data []byte) uint16 {
	crc := uint16(0xffff)
	for _, b := range data {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// cells returns the colours of the grid, true for white.
func (m Mark) cells() (grid [markRows][markColumns]bool) {
	packed := m.pack()
	for r := range grid {
		row := &grid[r]
		row[1], row[markColumns-2] = true, true
		for i := range rowBits {
			if bit := r*rowBits + i; bit < 8*markBytes {
				row[2+i] = packed[bit/8]>>(7-bit%8)&1 != 0
			}
		}
	}
	return grid
}

// drawMark paints the strip into a luma plane.
func drawMark(luma []byte, stride, w, h int, m Mark) {
	for r, row := range m.cells() {
		y0, y1 := (markTop+r)*h/markParts, (markTop+r+1)*h/markParts
		first := luma[y0*stride : y0*stride+w]
		for c, white := range row {
			level := byte(black)
			if white {
				level = whiteLevel
			}
			fill(first[c*w/markColumns:(c+1)*w/markColumns], level)
		}
		for y := y0 + 1; y < y1; y++ {
			copy(luma[y*stride:y*stride+w], first)
		}
	}
}

// Decode reads the mark from the luma plane of a picture of w by h pixels, of any size that leaves a cell a few pixels.
// stride is in bytes. It returns ErrNoMark when there is none that can be trusted.
func Decode(luma []byte, stride, w, h int) (Mark, error) {
	if w < 2*markColumns || h < 2*markParts || stride < w || len(luma) < (h-1)*stride+w {
		return Mark{}, ErrNoMark
	}
	var levels [markRows][markColumns]int
	dark, bright := 0, 0
	for r := range levels {
		for c := range levels[r] {
			levels[r][c] = cellLevel(luma, stride, w, h, c, r)
		}
		dark += levels[r][0] + levels[r][markColumns-1]
		bright += levels[r][1] + levels[r][markColumns-2]
	}
	dark, bright = dark/(2*markRows), bright/(2*markRows)
	if bright-dark < 40 {
		return Mark{}, ErrNoMark
	}
	threshold := (dark + bright) / 2
	var b [markBytes]byte
	for r, row := range levels {
		if row[0] > threshold || row[1] <= threshold || row[markColumns-2] <= threshold || row[markColumns-1] > threshold {
			return Mark{}, ErrNoMark
		}
		for i := range rowBits {
			if row[2+i] <= threshold {
				continue
			}
			bit := r*rowBits + i
			if bit >= 8*markBytes {
				return Mark{}, ErrNoMark
			}
			b[bit/8] |= 1 << (7 - bit%8)
		}
	}
	if b[0]>>4 != markVersion || binary.BigEndian.Uint16(b[11:]) != crc16(b[:11]) {
		return Mark{}, ErrNoMark
	}
	ms := int64(binary.BigEndian.Uint16(b[5:]))<<32 | int64(binary.BigEndian.Uint32(b[7:]))
	return Mark{Counter: binary.BigEndian.Uint32(b[1:]), Time: time.UnixMilli(ms).UTC(), Flash: b[0]&flagFlash != 0}, nil
}

// cellLevel returns the mean of the middle of a cell: its edges suffer most from compression and scaling.
func cellLevel(luma []byte, stride, w, h, c, r int) int {
	x0, x1 := middle(c*w/markColumns, (c+1)*w/markColumns)
	y0, y1 := middle((markTop+r)*h/markParts, (markTop+r+1)*h/markParts)
	sum := 0
	for y := y0; y < y1; y++ {
		for _, v := range luma[y*stride+x0 : y*stride+x1] {
			sum += int(v)
		}
	}
	return sum / ((x1 - x0) * (y1 - y0))
}

func middle(a, b int) (int, int) {
	quarter := (b - a) / 4
	return a + quarter, max(b-quarter, a+quarter+1)
}
