package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"gantry/encoder/libav"
	"gantry/internal/testkit/vivid"
	"gantry/internal/testkit/vm"
	"gantry/media"
)

// Interlaced HDMI, which vivid delivers field by field, goes out as whole pictures, 25 a second of 1080i50, or as one of each field, 50 a
// second and 20 ms apart.
func TestKernelInterlacedSignal(t *testing.T) {
	vm.Guest(t)
	if libav.Missing() != "" {
		t.Skip(libav.Missing())
	}
	node := vivid.Node(camera)
	vivid.Plug(t, node, vivid.T1920x1080i50)
	for _, deinterlace := range []string{eachFrame, eachField} {
		t.Run(deinterlace, func(t *testing.T) {
			c := defaults()
			c.Video.Source, c.Video.Deinterlace = sourceV4L2, deinterlace
			c.Video.V4L2.Device, c.Video.V4L2.Format = node, "NV12"
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			src, err := video(c, slog.New(slog.DiscardHandler)).Open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			got, err := src.Start(ctx)
			if err != nil {
				t.Fatal(err)
			}
			rate := 25
			if deinterlace == eachField {
				rate = 50
			}
			if got.Width != 1920 || got.Height != 1080 || got.Rate != (media.Rational{Num: rate, Den: 1}) || got.Field != media.Progressive || got.FourCC != media.YU12 {
				t.Errorf("%+v", got)
			}
			var last *media.Frame
			for n := range 10 {
				f, err := src.Read(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if last != nil {
					if d := f.PTS - last.PTS; f.Format != got || f.Seq != last.Seq+1 || (d-got.Rate.Interval()).Abs() > 2*time.Millisecond {
						t.Errorf("picture %d is number %d after %d, %v later, %+v", n, f.Seq, last.Seq, d, f.Format)
					}
					last.Release()
				}
				last = f
			}
			last.Release()
		})
	}
}
