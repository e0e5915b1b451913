package openh264

import (
	"fmt"
	"image"
	"testing"

	"gantry/media"
)

// Each layout shows the same picture, padded lines and an odd size included.
func TestConverterReadsEachLayout(t *testing.T) {
	const w, h = 31, 7
	luma := func(x, y int) byte { return byte(32*y + x) }
	for _, fourcc := range inputs {
		in := media.VideoFormat{Width: w, Height: h, FourCC: fourcc}
		packed, _ := in.Packed()
		var planes []media.Plane
		var pixels [][]byte
		for _, p := range packed {
			stride := p.Stride + 4
			planes = append(planes, media.Plane{Stride: stride})
			pixels = append(pixels, make([]byte, stride*(p.Len/p.Stride)))
		}
		for y := range h {
			for x := range w {
				// Chroma differs by 4 from line to line of a pair: the mean of both is its middle.
				u, v := byte(234+x/2+4*(y%2)), byte(150+x/2+4*(y%2))
				row := func(i, y int) []byte { return pixels[i][y*planes[i].Stride:] }
				switch fourcc {
				case media.YU12:
					row(0, y)[x], row(1, y/2)[x/2], row(2, y/2)[x/2] = luma(x, y), byte(236+x/2), byte(152+x/2)
				case media.NV12:
					row(0, y)[x], row(1, y/2)[x&^1], row(1, y/2)[x|1] = luma(x, y), byte(236+x/2), byte(152+x/2)
				case media.NV16:
					row(0, y)[x], row(1, y)[x&^1], row(1, y)[x|1] = luma(x, y), u, v
				case media.YUYV:
					p := row(0, y)[4*(x/2):]
					p[2*(x&1)], p[1], p[3] = luma(x, y), u, v
				case media.P010: // two of four steps of ten bits more or one less, which round to the same
					row(0, y)[2*x], row(0, y)[2*x+1] = 1<<6, luma(x, y)
					uv := row(1, y/2)[4*(x/2):]
					uv[0], uv[1], uv[2], uv[3] = 3<<6, byte(235+x/2), 1<<6, byte(152+x/2)
				case media.Y210:
					p := row(0, y)[8*(x/2):]
					p[4*(x&1)], p[4*(x&1)+1], p[3], p[7] = 1<<6, luma(x, y), u, v
				case media.UYVY:
					p := row(0, y)[4*(x/2):]
					p[1+2*(x&1)], p[0], p[2] = luma(x, y), u, v
				}
			}
		}
		c := newConverter(in, w&^1, h&^1)
		f := media.NewFrame(in, planes, memory(pixels))
		var img image.YCbCr
		if err := c.i420(&img, f, pixels); err != nil {
			t.Fatal(err)
		}
		f.Release()
		for y := range h &^ 1 {
			for x := range w &^ 1 {
				got := [3]byte{img.Y[y*img.YStride+x], img.Cb[y/2*img.CStride+x/2], img.Cr[y/2*img.CStride+x/2]}
				if want := [3]byte{luma(x, y), byte(236 + x/2), byte(152 + x/2)}; got != want {
					t.Fatalf("%v at %d,%d: got %v, want %v", fourcc, x, y, got, want)
				}
			}
		}
	}
}

type memory [][]byte

func (m memory) CPU(_ *media.Frame, fn func([][]byte) error) error { return fn(m) }
func (memory) Release(*media.Frame)                                {}

func BenchmarkConverter(b *testing.B) {
	for _, fourcc := range inputs {
		b.Run(fmt.Sprintf("720p/%v", fourcc), func(b *testing.B) {
			in := media.VideoFormat{Width: 1280, Height: 720, FourCC: fourcc}
			f := media.NewPool(in, 1).Get()
			defer f.Release()
			c := newConverter(in, 1280, 720)
			var img image.YCbCr
			b.ReportAllocs()
			for b.Loop() {
				if err := f.CPU(func(planes [][]byte) error { return c.i420(&img, f, planes) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
