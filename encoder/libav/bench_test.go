//go:build cgo && !nolibav

package libav

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/internal/testkit/encodertest"
	"gantry/media"
)

// benchFrames is how many different pictures are coded in turn.
const benchFrames = 60

func draw(tb testing.TB, in media.VideoFormat) []*media.Frame {
	tb.Helper()
	pool := media.NewPool(in, benchFrames)
	var frames []*media.Frame
	for n := range benchFrames {
		f := pool.Get()
		f.PTS = encodertest.Stamp(n)
		if err := encoder.DrawPattern(f, n, 4); err != nil {
			tb.Fatal(err)
		}
		frames = append(frames, f)
		tb.Cleanup(f.Release)
	}
	return frames
}

func cpuTime(who int) time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEncode is the whole path of a picture through the binding: compare cpu-ms/frame with BenchmarkFFmpeg's.
func BenchmarkEncode(b *testing.B) {
	for _, fourcc := range inputs {
		b.Run("720p/"+fourcc.String(), func(b *testing.B) {
			benchmark(b, encodertest.Format(1280, 720, fourcc), encoder.Params{Bitrate: 2_500_000})
		})
	}
	// Nothing much to code: what is left is the binding and x264's own constant work.
	b.Run("32x32", func(b *testing.B) {
		benchmark(b, encodertest.Format(32, 32, media.NV12), encoder.Params{Bitrate: 100_000})
	})
}

// BenchmarkRenditions is what each further encode of a 1080p picture costs, its scaling included.
func BenchmarkRenditions(b *testing.B) {
	for _, r := range []struct {
		name string
		p    encoder.Params
	}{
		{"1080p", encoder.Params{Bitrate: 5_000_000}},
		{"720p", encoder.Params{Width: 1280, Height: 720, Bitrate: 2_500_000}},
		{"360p", encoder.Params{Width: 640, Height: 360, Bitrate: 800_000}},
	} {
		b.Run(r.name, func(b *testing.B) {
			r.p.Threads = 1
			benchmark(b, encodertest.Format(1920, 1080, media.NV12), r.p)
		})
	}
}

func benchmark(b *testing.B, in media.VideoFormat, p encoder.Params) {
	frames := draw(b, in)
	e := encodertest.Suite{Backend: Backends()[0]}.Open(b, in, p)
	ctx := context.Background()
	b.ReportAllocs()
	n, start := 0, cpuTime(syscall.RUSAGE_SELF)
	for b.Loop() {
		if err := e.Encode(ctx, frames[n%benchFrames], false); err != nil {
			b.Fatal(err)
		}
		if _, err := e.Read(ctx); err != nil {
			b.Fatal(err)
		}
		n++
	}
	used := (cpuTime(syscall.RUSAGE_SELF) - start).Seconds()
	b.ReportMetric(used*1e3/float64(n), "cpu-ms/frame")
	b.ReportMetric(float64(n)/used, "fps/core")
}

// BenchmarkFFmpeg is ffmpeg's own program at the same work: same pictures, same options, one thread, nothing written.
func BenchmarkFFmpeg(b *testing.B) {
	const rounds = 5
	in := encodertest.Format(1280, 720, media.NV12)
	file := filepath.Join(b.TempDir(), "pictures.nv12")
	var raw bytes.Buffer
	for _, f := range draw(b, in) {
		raw.Write(encodertest.Pixels(b, f))
	}
	if err := os.WriteFile(file, raw.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	args := []string{"-nostdin", "-v", "error", "-threads", "1", "-stream_loop", "4", "-f", "rawvideo", "-pix_fmt", "nv12",
		"-s", "1280x720", "-r", "30", "-i", file, "-c:v", "libx264", "-threads", "1",
		"-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "1250k"}
	p := encoder.Params{Width: 1280, Height: 720, Bitrate: 2_500_000}
	for _, o := range x264(p, in.Rate) {
		args = append(args, "-"+o.key, o.value)
	}
	args = append(args, "-f", "null", "-")
	frames := 0
	start := cpuTime(syscall.RUSAGE_CHILDREN)
	for b.Loop() {
		if out, err := exec.Command("ffmpeg", args...).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		frames += rounds * benchFrames
	}
	used := (cpuTime(syscall.RUSAGE_CHILDREN) - start).Seconds()
	b.ReportMetric(used*1e3/float64(frames), "cpu-ms/frame")
	b.ReportMetric(float64(frames)/used, "fps/core")
}

// resident returns the process's memory in bytes.
func resident(tb testing.TB) int {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}
