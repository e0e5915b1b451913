//go:build cgo && !nolibav

package libav

import (
	"bytes"
	"os/exec"
	"testing"
	"time"

	"gantry/media"
	"gantry/media/h264"
)

// A stream with B-frames leaves in the order in which it is shown, without a picture missing.
func TestLiveDecoderOrder(t *testing.T) {
	for _, c := range []struct {
		codec  media.Codec
		format string
		args   []string
	}{
		{media.H264, "h264", []string{"-c:v", "libx264", "-bf", "2", "-x264-params", "aud=1:b-pyramid=none:b-adapt=0"}},
		{media.H265, "hevc", []string{"-c:v", "libx265", "-x265-params", "aud=1:bframes=2:b-adapt=0:log-level=error"}},
	} {
		args := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25", "-frames:v", "40", "-g", "20", "-pix_fmt", "yuv420p"}, c.args...)
		out, err := exec.Command("ffmpeg", append(args, "-f", c.format, "-")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		var units [][]byte
		for n := range h264.NALUs(out) { // an access unit begins with its delimiter
			if c.codec == media.H264 && n[0]&0x1f == 9 || c.codec == media.H265 && n[0]>>1 == 35 {
				units = append(units, nil)
			}
			units[len(units)-1] = h264.Append(units[len(units)-1], n)
		}
		d, err := NewLiveDecoder(c.codec)
		if err != nil {
			t.Fatal(err)
		}
		var sums [][]byte
		take := func(frames []*media.Frame, err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				_ = f.CPU(func(planes [][]byte) error { sums = append(sums, bytes.Clone(planes[0])); return nil })
				f.Release()
			}
		}
		for i, u := range units {
			take(d.Decode(&media.Packet{PTS: time.Duration(i), Data: u}))
		}
		take(d.Drain())
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if len(sums) != 40 {
			t.Fatalf("%v: %d pictures of 40", c.codec, len(sums))
		}
		// The test picture moves steadily: each is nearer to its neighbour than to the one three further on.
		for i := 3; i < len(sums); i++ {
			if i%25 > 3 && differ(sums[i], sums[i-1]) > differ(sums[i], sums[i-3]) {
				t.Errorf("%v: picture %d is out of order", c.codec, i)
			}
		}
	}
}

func differ(a, b []byte) (sum int) {
	for i := range a {
		sum += max(int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return sum
}
