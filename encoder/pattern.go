package encoder

import (
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
	w, h := f.Format.Width, f.Format.Height
	noise = min(max(noise, 0), 32)
	return f.CPU(func(planes [][]byte) error {
		line := func(i, y int) []byte { return planes[i][y*f.Planes[i].Stride:] }
		chroma := func(x, y int) (u, v byte) { // by position in luma samples
			return byte(96 + (x+n)>>3&63), byte(96 + (y+2*n)>>3&63)
		}
		luma := make([]byte, w+1)
		for y := range h {
			drawLuma(luma[:w], y, n, noise)
			luma[w] = luma[w-1]
			switch f.Format.FourCC {
			case media.YU12, media.NV12, media.NV16, media.NV24:
				copy(line(0, y), luma[:w])
			case media.YUYV, media.UYVY:
				at, uv := 0, 1
				if f.Format.FourCC == media.UYVY {
					at, uv = 1, 0
				}
				row := line(0, y)
				for x := 0; x < w; x += 2 {
					u, v := chroma(x, y)
					p := row[2*x : 2*x+4]
					p[at], p[uv], p[at+2], p[uv+2] = luma[x], u, luma[x+1], v
				}
				continue
			case media.RGB3, media.BGR3:
				row := line(0, y)
				for x := range w {
					u, v := chroma(x, y)
					row[3*x], row[3*x+1], row[3*x+2] = luma[x]-u/8+16, luma[x], luma[x]-v/8+16
				}
				continue
			default:
				return fmt.Errorf("draw pattern: no layout %v", f.Format.FourCC)
			}
			switch fourcc := f.Format.FourCC; {
			case fourcc == media.YU12 && y%2 == 0:
				for x := 0; x < w; x += 2 {
					line(1, y/2)[x/2], line(2, y/2)[x/2] = chroma(x, y)
				}
			case fourcc == media.NV12 && y%2 == 0:
				for x := 0; x < w; x += 2 {
					line(1, y/2)[x], line(1, y/2)[x+1] = chroma(x, y)
				}
			case fourcc == media.NV16:
				for x := 0; x < w; x += 2 {
					line(1, y)[x], line(1, y)[x+1] = chroma(x, y)
				}
			case fourcc == media.NV24:
				for x := range w {
					line(1, y)[2*x], line(1, y)[2*x+1] = chroma(x, y)
				}
			}
		}
		return nil
	})
}

// drawLuma draws one line of luma, within 40–215 so that grain does not clip.
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
