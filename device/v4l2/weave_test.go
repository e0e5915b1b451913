package v4l2

import (
	"testing"
	"time"

	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// Fields become pictures in their order, each line in its place; a field without its other half is lost, and nothing is kept.
func TestWeaver(t *testing.T) {
	for _, order := range []media.FieldOrder{media.TopFieldFirst, media.BottomFieldFirst} {
		whole := media.VideoFormat{Width: 6, Height: 8, FourCC: media.NV12, Field: order}
		half := whole
		half.Height = 4
		w, pool := newWeaver(whole, 2), media.NewPool(half, 4)
		first, second := uapi.FieldTop, uapi.FieldBottom
		if order == media.BottomFieldFirst {
			first, second = second, first
		}
		add := func(field uapi.Field, seq uint32) *media.Frame {
			f := pool.Get()
			f.Seq, f.PTS = seq, time.Duration(seq)*time.Second
			parity := byte(0)
			if field == uapi.FieldBottom {
				parity = 1
			}
			_ = f.CPU(func(planes [][]byte) error {
				for i, p := range planes {
					for at := range p { // each sample says in which line of the picture it lies
						p[at] = byte(2*(at/f.Planes[i].Stride)) + parity
					}
				}
				return nil
			})
			return w.add(f, field)
		}
		check := func(f *media.Frame, seq uint32) {
			t.Helper()
			if f == nil {
				t.Fatal("no picture of two fields")
			}
			defer f.Release()
			if f.Format != whole || f.Seq != seq {
				t.Errorf("%+v, number %d, want %d", f.Format, f.Seq, seq)
			}
			_ = f.CPU(func(planes [][]byte) error {
				for i, p := range planes {
					for at, v := range p {
						if int(v) != at/f.Planes[i].Stride {
							t.Fatalf("plane %d line %d is line %d", i, at/f.Planes[i].Stride, v)
						}
					}
				}
				return nil
			})
		}
		if add(second, 6) != nil || add(first, 7) != nil {
			t.Error("a picture of one field")
		}
		check(add(second, 7), 7) // both numbered alike
		if add(first, 8) != nil || add(first, 9) != nil {
			t.Error("a picture of two first fields")
		}
		check(add(second, 9), 9)
		if add(first, 10) != nil || add(second, 12) != nil {
			t.Error("a picture of fields of two pictures")
		}
		add(first, 20)
		check(add(second, 21), 10) // each numbered
		add(first, 30)
		w.end()
	}
}
