//go:build cgo && !nolibav

package pipeline

import (
	"os/exec"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/media"
	"gantry/media/h264"
)

// combed tells how much more a line differs from the next than from the one after that: much in what moves between two fields.
func combed(f *media.Frame) float64 {
	next, after := 1, 1
	_ = f.CPU(func(planes [][]byte) error {
		stride, y := f.Planes[0].Stride, planes[0]
		for i := 0; i+2*stride < len(y); i++ {
			if i%stride < f.Format.Width {
				next += max(int(y[i]), int(y[i+stride])) - min(int(y[i]), int(y[i+stride]))
				after += max(int(y[i]), int(y[i+2*stride])) - min(int(y[i]), int(y[i+2*stride]))
			}
		}
		return nil
	})
	return float64(next) / float64(after)
}

// Interlaced H.264 becomes whole pictures, of each two fields or of every one.
func TestFields(t *testing.T) {
	stream, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=50,tinterlace=interleave_top", "-frames:v", "20",
		"-c:v", "libx264", "-flags", "+ildct+ilme", "-top", "1", "-bf", "0", "-g", "10", "-x264-params", "aud=1", "-pix_fmt", "yuv420p", "-f", "h264", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	var units [][]byte
	for n := range h264.NALUs(stream) {
		if n[0]&0x1f == 9 {
			units = append(units, nil)
		}
		units[len(units)-1] = h264.Append(units[len(units)-1], n)
	}
	for _, each := range []bool{false, true} {
		d, err := libav.NewLiveDecoder(media.H264)
		if err != nil {
			t.Fatal(err)
		}
		whole := fields{open: func(in media.VideoFormat) (encoder.Converter, error) { return libav.NewConverter(in, each) }}
		interval, most, n := 40*time.Millisecond, 0, 0
		if each {
			interval, most = 20*time.Millisecond, 1
		}
		var before, after float64
		last := -interval
		for i, u := range units {
			pictures, err := d.Decode(&media.Packet{PTS: time.Duration(i) * 40 * time.Millisecond, Data: u})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range pictures {
				if f.Format.Field != media.TopFieldFirst {
					t.Fatalf("decoded as %+v, field order %d", f.Format, f.Format.Field)
				}
				f.Format.Rate = media.Rational{Num: 25, Den: 1}
				before += combed(f)
				if err := whole.convert(t.Context(), f, func(f *media.Frame) {
					if f.Format.Field != media.Progressive || f.PTS-last != interval {
						t.Errorf("picture %d: %v, %v after the last", n, f.Format, f.PTS-last)
					}
					last = f.PTS
					after += combed(f)
					n++
					f.Release()
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := whole.close(); err != nil {
			t.Error(err)
		}
		_ = d.Close()
		want := len(units) << most
		if n < want-6 {
			t.Errorf("%d pictures of %d", n, want)
		}
		if before, after := before/float64(len(units)), after/float64(n); after > 0.9*before {
			t.Errorf("combed %.2f before, %.2f after", before, after)
		} else {
			t.Logf("combed %.2f before, %.2f after", before, after)
		}
	}
}
