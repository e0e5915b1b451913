package encoder

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"gantry/media"
)

// grain is random bytes that DrawPattern reads at changing offsets: cheaper than a random number a pixel.
var grain = func() []byte {
	b := make([]byte, 1<<16)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}()

// DrawPattern draws picture number n of an endless moving scene: gradients and edges that pan, with camera-like grain of
// ±noise steps (up to 32). The probe and the tests of encoders use it. It needs one of the layouts that media names, without
// compression.
func DrawPattern(f *media.Frame, n, noise int) error {
	noise = min(max(noise, 0), 32)
	return f.CPU(func(planes [][]byte) error {
		luma := make([]byte, f.Format.Width+1)
		for y := range f.Format.Height {
			drawLuma(luma, y, n, noise)
			if !drawLine(f, planes, luma, y, n) {
				return fmt.Errorf("draw pattern: no layout %v", f.Format.FourCC)
			}
		}
		return nil
	})
}

// drawLuma draws one line of luma, within 40–215 so that grain does not clip, and one pixel more for odd widths.
//
// The race detector is off here, as in drawLine: it would take the time of the whole test, for a buffer of one goroutine.
//
//go:norace
func drawLuma(row []byte, y, n, noise int) {
	offset := (y*7919 + n*104729) & (len(grain) - 1)
	for x := range row {
		v := 72 + (x+2*n)>>2&31 + (y+n)>>1&31
		if ((x+3*n)>>5^(y+n)>>5)&3 == 0 {
			v += 48
		}
		if noise > 0 {
			v += int(grain[(offset+x)&(len(grain)-1)])*(2*noise+1)>>8 - noise
		}
		row[x] = byte(v)
	}
}

// chroma is the colour at a position in luma samples.
func chroma(x, y, n int) (u, v byte) { return byte(96 + (x+n)>>3&63), byte(96 + (y+2*n)>>3&63) }

// drawLine writes line y in the frame's layout, false when it is none that can be drawn.
//
//go:norace
func drawLine(f *media.Frame, planes [][]byte, luma []byte, y, n int) bool {
	w := f.Format.Width
	first := planes[0][y*f.Planes[0].Stride:]
	switch f.Format.FourCC {
	case media.YUYV, media.UYVY:
		at, uv := 0, 1
		if f.Format.FourCC == media.UYVY {
			at, uv = 1, 0
		}
		for x := 0; x < w; x += 2 {
			p := first[2*x : 2*x+4]
			p[at], p[at+2] = luma[x], luma[x+1]
			p[uv], p[uv+2] = chroma(x, y, n)
		}
	case media.RGB3, media.BGR3:
		for x := range w {
			u, v := chroma(x, y, n)
			first[3*x], first[3*x+1], first[3*x+2] = luma[x]-u/8+16, luma[x], luma[x]-v/8+16
		}
	case media.YU12:
		copy(first, luma[:w])
		if y%2 == 1 {
			break
		}
		us, vs := planes[1][y/2*f.Planes[1].Stride:], planes[2][y/2*f.Planes[2].Stride:]
		for x := 0; x < w; x += 2 {
			us[x/2], vs[x/2] = chroma(x, y, n)
		}
	case media.NV12, media.NV16, media.NV24:
		copy(first, luma[:w])
		row, step := y, 2 // lines of chroma, luma samples to one of chroma
		switch f.Format.FourCC {
		case media.NV12:
			if y%2 == 1 {
				return true
			}
			row = y / 2
		case media.NV24:
			step = 1
		}
		uvs := planes[1][row*f.Planes[1].Stride:]
		for x := 0; x < w; x += step {
			i := x / step * 2
			uvs[i], uvs[i+1] = chroma(x, y, n)
		}
	case media.P010:
		for x := range w {
			putTen(first[2*x:], luma[x])
		}
		if y%2 == 1 {
			break
		}
		uvs := planes[1][y/2*f.Planes[1].Stride:]
		for x := 0; x < w; x += 2 {
			u, v := chroma(x, y, n)
			putTen(uvs[2*x:], u)
			putTen(uvs[2*x+2:], v)
		}
	case media.Y210:
		for x := 0; x < w; x += 2 {
			u, v := chroma(x, y, n)
			for i, sample := range [...]byte{luma[x], u, luma[x+1], v} {
				putTen(first[4*x+2*i:], sample)
			}
		}
	default:
		return false
	}
	return true
}

// putTen writes a sample of eight bits as one of ten, in the high bits of a word.
func putTen(to []byte, sample byte) { binary.LittleEndian.PutUint16(to, uint16(sample)<<8) }
