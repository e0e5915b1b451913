package still

import (
	"bytes"
	"image/jpeg"
	"testing"

	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A half red, half grey picture of each layout and range looks so.
func TestJPEG(t *testing.T) {
	for _, format := range []media.FourCC{media.YU12, media.NV12, media.NV16, media.NV24, media.YUYV, media.UYVY, media.RGB3, media.BGR3, media.P010} {
		for _, width := range []int{0, 64, 100, 1000} {
			in := media.VideoFormat{Width: 128, Height: 72, FourCC: format, Rate: media.Rational{Num: 30, Den: 1}, Matrix: media.MatrixBT601, Range: media.RangeLimited}
			if format == media.RGB3 || format == media.BGR3 {
				in.Range = media.RangeFull
			}
			f := media.NewPool(in, 1).Get()
			_ = f.CPU(func(planes [][]byte) error { paint(f, planes); return nil })
			data, err := JPEG(f, width)
			f.Release()
			if err != nil {
				t.Fatal(format, err)
			}
			img, err := jpeg.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(format, err)
			}
			w, h := img.Bounds().Dx(), img.Bounds().Dy()
			if want := map[int]int{0: 128, 64: 64, 100: 100, 1000: 128}[width]; w != want || h != want*9/16&^1 {
				t.Errorf("%v: %dx%d", format, w, h)
			}
			near := func(x int, r, g, b uint32) {
				a, c, d, _ := img.At(x, h/2).RGBA()
				for i, v := range [3][2]uint32{{a >> 8, r}, {c >> 8, g}, {d >> 8, b}} {
					if max(v[0], v[1])-min(v[0], v[1]) > 14 {
						t.Errorf("%v width %d at %d: channel %d is %d, want %d", format, width, x, i, v[0], v[1])
					}
				}
			}
			near(w/4, 255, 0, 0)
			near(w*3/4, 128, 128, 128)
		}
	}
}

// paint draws the left half red and the right half grey.
func paint(f *media.Frame, planes [][]byte) {
	in := f.Format
	for y := range in.Height {
		for x := range in.Width {
			l, cb, cr := byte(81), byte(90), byte(240) // limited-range red
			r, g, b := byte(255), byte(0), byte(0)
			if x >= in.Width/2 {
				l, cb, cr, r, g, b = 126, 128, 128, 128, 128, 128
			}
			at := func(i int) []byte { return planes[i][y*f.Planes[i].Stride:] }
			half := func(i int) []byte { return planes[i][y/2*f.Planes[i].Stride:] }
			switch in.FourCC {
			case media.YU12:
				at(0)[x], half(1)[x/2], half(2)[x/2] = l, cb, cr
			case media.NV12:
				at(0)[x], half(1)[x&^1], half(1)[x|1] = l, cb, cr
			case media.NV16:
				at(0)[x], at(1)[x&^1], at(1)[x|1] = l, cb, cr
			case media.NV24:
				at(0)[x], at(1)[2*x], at(1)[2*x+1] = l, cb, cr
			case media.P010:
				at(0)[2*x+1], half(1)[2*(x&^1)+1], half(1)[2*(x&^1)+3] = l, cb, cr
			case media.YUYV:
				at(0)[2*x], at(0)[x/2*4+1], at(0)[x/2*4+3] = l, cb, cr
			case media.UYVY:
				at(0)[2*x+1], at(0)[x/2*4], at(0)[x/2*4+2] = l, cb, cr
			case media.RGB3:
				at(0)[3*x], at(0)[3*x+1], at(0)[3*x+2] = r, g, b
			case media.BGR3:
				at(0)[3*x], at(0)[3*x+1], at(0)[3*x+2] = b, g, r
			}
		}
	}
}

func BenchmarkJPEG(b *testing.B) {
	f := media.NewPool(media.VideoFormat{Width: 1920, Height: 1080, FourCC: media.NV12}, 1).Get()
	defer f.Release()
	for b.Loop() {
		if _, err := JPEG(f, 0); err != nil {
			b.Fatal(err)
		}
	}
}
