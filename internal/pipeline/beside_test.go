//go:build cgo && !nolibav

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/proto/mpegts"
	"gantry/media"
	"gantry/uplink"
)

const (
	besidePictures = 300
	besideBitrate  = 2_500_000
)

// The same job for a Session and for ffmpeg: raw 1280x720 pictures with grain from one file, by libx264 with the same settings on one
// thread, into MPEG-TS. What either takes beyond the encoder alone, in CPU time a picture, is its own cost.
func BenchmarkBesideFFmpeg(b *testing.B) {
	file, format := rawPictures(b)
	all := libav.Backends()
	x264 := all[slices.IndexFunc(all, func(b encoder.Backend) bool { return b.Name == "libx264" })]
	params := encoder.Params{Codec: media.H264, Bitrate: besideBitrate, GOP: 2 * time.Second, Threads: 1}
	var alone, ours, theirs time.Duration
	var memory runtime.MemStats
	for b.Loop() {
		alone += encodeAlone(b, x264, params, file, format)
		runtime.ReadMemStats(&memory)
		before := memory.Mallocs
		ours += session(b, x264, params, file, format)
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(memory.Mallocs-before)/besidePictures, "allocs/picture")
		theirs += ffmpeg(b, file, format, besidePictures) - ffmpeg(b, file, format, 1)
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(besidePictures*b.N) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(each(alone), "µs-encoder/picture")
	b.ReportMetric(each(ours), "µs-gantry/picture")
	b.ReportMetric(each(theirs), "µs-ffmpeg/picture")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "gantry/ffmpeg")
}

// rawPictures writes a second of moving pictures to a file.
func rawPictures(b *testing.B) (string, media.VideoFormat) {
	b.Helper()
	format := yu12(1280, 720, 30)
	path := filepath.Join(b.TempDir(), "pictures.yuv")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	pool := media.NewPool(format, 1)
	for n := range 30 {
		f := pool.Get()
		err := encoder.DrawPattern(f, n, 4)
		if err == nil {
			err = f.CPU(func(planes [][]byte) error {
				for _, p := range planes {
					if _, err := out.Write(p); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			b.Fatal(err)
		}
		f.Release()
	}
	return path, format
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A tape is a Source that reads pictures from a file, again from the start at its end. Each waits for ready.
type tape struct {
	file   *os.File
	pool   *media.Pool
	format media.VideoFormat
	base   time.Duration
	n      int
	ready  chan struct{}
}

func openTape(b *testing.B, path string, format media.VideoFormat) *tape {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	return &tape{file: f, pool: media.NewPool(format, 4), format: format, base: clock.Now(), ready: make(chan struct{}, 1)}
}

func (t *tape) Start(context.Context) (media.VideoFormat, error) { return t.format, nil }
func (t *tape) Close() error                                     { return t.file.Close() }
func (t *tape) Read(ctx context.Context) (*media.Frame, error) {
	select {
	case <-t.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return t.picture()
}

func (t *tape) picture() (*media.Frame, error) {
	f := t.pool.Get()
	read := func(planes [][]byte) error {
		for _, p := range planes {
			if _, err := io.ReadFull(t.file, p); err != nil {
				return err
			}
		}
		return nil
	}
	err := f.CPU(read)
	if errors.Is(err, io.EOF) {
		if _, err = t.file.Seek(0, io.SeekStart); err == nil {
			err = f.CPU(read)
		}
	}
	if err != nil {
		f.Release()
		return nil, err
	}
	t.n++
	f.PTS, f.Seq = t.base+time.Duration(t.n)*t.format.Rate.Interval(), uint32(t.n)
	return f, nil
}

// encodeAlone returns the CPU time of reading and coding.
func encodeAlone(b *testing.B, x264 encoder.Backend, p encoder.Params, path string, format media.VideoFormat) time.Duration {
	src := openTape(b, path, format)
	defer src.Close()
	e, err := x264.Open(context.Background(), format, p)
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	before := cpuTime()
	for range besidePictures {
		f, err := src.picture()
		if err == nil {
			err = e.Encode(context.Background(), f, false)
			f.Release()
		}
		if err == nil {
			_, err = e.Read(context.Background())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return cpuTime() - before
}

// A writer is a Sender of MPEG-TS to nowhere, which tells of each picture.
type writer struct {
	ready chan struct{}
	count int
	done  chan struct{}
}

func (w *writer) Run(ctx context.Context, p uplink.Program) error {
	ts, err := mpegts.NewWriter(io.Discard, p.Tracks)
	if err != nil {
		return err
	}
	p.Connected()
	for {
		packet, err := p.Packets.Pull(ctx)
		if err != nil {
			return nil
		}
		if err := ts.Write(packet); err != nil {
			return err
		}
		if w.count++; w.count == besidePictures {
			close(w.done)
		}
		w.ready <- struct{}{}
	}
}

// session returns the CPU time of a whole Session.
func session(b *testing.B, x264 encoder.Backend, p encoder.Params, path string, format media.VideoFormat) time.Duration {
	src := openTape(b, path, format)
	w := &writer{ready: src.ready, done: make(chan struct{})}
	src.ready <- struct{}{}
	s := New(Spec{
		Video:   Video{Name: "tape", Key: 1, Format: format, Open: func(context.Context) (device.Source, error) { return src, nil }},
		Encoder: Encoder{Key: 1, Backends: []encoder.Backend{x264}, Params: p, Floor: p.Bitrate},
		Uplinks: []Uplink{{Name: "ts", Key: 1, Open: func(*slog.Logger) (uplink.Sender, error) { return w, nil }}},
	}, func(media.VideoFormat, string, string) (Still, error) { return nil, errors.New("none") }, &health.Set{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	before := cpuTime()
	go func() { ended <- s.Run(ctx) }()
	<-w.done
	took := cpuTime() - before
	go func() { // what it waits to tell
		for range w.ready {
		}
	}()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	close(w.ready)
	return took
}

// ffmpeg returns the CPU time that ffmpeg takes for so many pictures.
func ffmpeg(b *testing.B, path string, format media.VideoFormat, pictures int) time.Duration {
	cmd := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "-1", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", "1280x720",
		"-framerate", "30", "-threads", "1", "-i", path, "-frames:v", fmt.Sprint(pictures), "-c:v", "libx264", "-threads", "1", "-preset", "superfast",
		"-tune", "zerolatency", "-profile:v", "baseline", "-b:v", fmt.Sprint(besideBitrate), "-maxrate", fmt.Sprint(besideBitrate),
		"-bufsize", fmt.Sprint(besideBitrate/2), "-g", "60", "-sc_threshold", "0", "-x264-params", "sliced-threads=0:sync-lookahead=0:rc-lookahead=0",
		"-f", "mpegts", "/dev/null", "-y")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
