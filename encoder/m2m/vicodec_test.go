package m2m

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/internal/testkit"
	"gantry/internal/testkit/vivid"
	"gantry/internal/testkit/vm"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	_ encoder.Encoder     = (*Encoder)(nil)
	_ encoder.CopyCounter = (*Encoder)(nil)
)

// TestInVM runs the tests named TestKernel... beside vivid and vicodec, the kernel's virtual encoder of FWHT.
func TestInVM(t *testing.T) { vm.RunTests(t, guest(), "^TestKernel") }

// TestInVMMultiplanar runs them with vicodec's multi-planar interface.
func TestInVMMultiplanar(t *testing.T) {
	o := guest()
	o.Kernel = []string{"vicodec.multiplanar=1"}
	vm.RunTests(t, o, "^TestKernel")
}

func guest() vm.Options {
	return vm.Options{Vivid: "n_devs=1 node_types=0x1 num_inputs=2 input_types=0xc", TimeTravel: true}
}

// fwht is vicodec's format, which no track has a name for: outside these tests nobody can ask for it.
var fwht = coding{fourcc: media.NewFourCC("FWHT"), key: func(au []byte) bool {
	return len(au) >= 24 && binary.BigEndian.Uint32(au[20:])&(1<<10) != 0 // V4L2_FWHT_FL_I_FRAME
}}

var rate30 = media.Rational{Num: 30, Den: 1}

func format(w, h int, code media.FourCC) media.VideoFormat {
	return media.VideoFormat{Width: w, Height: h, FourCC: code, Rate: rate30, Matrix: media.MatrixBT709, Range: media.RangeLimited}
}

// stamp is the PTS of picture n: the kernel keeps microseconds of it only.
func stamp(n int) time.Duration {
	return time.Hour + time.Duration(n)*time.Second/30 + 7*time.Nanosecond
}

func start(t *testing.T, in media.VideoFormat, p encoder.Params) *Encoder {
	t.Helper()
	if p.Bitrate == 0 {
		p.Bitrate = 4_000_000
	}
	e, err := open(t.Context(), fwht, in, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// encode draws and codes pictures from first to last-1.
func encode(t *testing.T, e *Encoder, first, last int, key func(n int) bool) {
	t.Helper()
	pool := media.NewPool(e.in, 4)
	for n := first; n < last; n++ {
		f := pool.Get()
		f.PTS = stamp(n)
		if err := encoder.DrawPattern(f, n, 0); err != nil {
			t.Fatal(err)
		}
		put(t, e, f, key != nil && key(n))
		f.Release()
	}
}

func put(t *testing.T, e *Encoder, f *media.Frame, key bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := e.Encode(ctx, f, key); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, e *Encoder) *media.Packet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	p, err := e.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drain(t *testing.T, e *Encoder) (list []*media.Packet) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for {
		p, err := e.Read(t.Context())
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// What goes in comes out: each picture once, in order, with its exact time, and decoded by vicodec's own decoder it looks the
// same. 1080 lines are not whole blocks of 16, so the encoder's buffers are larger than the picture.
func TestKernelEncodedPicturesDecode(t *testing.T) {
	vm.Guest(t)
	for _, in := range []media.VideoFormat{format(640, 360, media.NV12), format(1280, 720, media.YU12), format(640, 480, media.YUYV), format(1920, 1080, media.NV12)} {
		t.Run(in.String(), func(t *testing.T) {
			e := start(t, in, encoder.Params{GOP: time.Second / 3})
			const n = 8
			var packets []*media.Packet
			for i := range n {
				encode(t, e, i, i+1, nil)
				packets = append(packets, next(t, e))
			}
			packets = append(packets, drain(t, e)...)
			if len(packets) != n {
				t.Fatalf("%d packets of %d pictures", len(packets), n)
			}
			for i, p := range packets {
				if p.PTS != stamp(i) || p.Key != (i == 0) || !p.Start || !p.End {
					t.Errorf("packet %d: %v, key %v", i, p.PTS-stamp(i), p.Key)
				}
			}
			if imported, copied := e.Copies(); imported != 0 || copied != n {
				t.Errorf("%d imported, %d copied", imported, copied)
			}
			luma := decode(t, packets, in)
			if len(luma) != n {
				t.Fatalf("%d pictures decoded of %d", len(luma), n)
			}
			worst := math.Inf(1)
			for i, got := range luma {
				worst = min(worst, psnr(got, drawn(t, in, i)))
			}
			t.Logf("worst luma PSNR %.1f dB", worst)
			if worst < 30 {
				t.Errorf("worst luma PSNR %.1f dB", worst)
			}
		})
	}
}

// drawn returns the luma of picture n.
func drawn(t *testing.T, in media.VideoFormat, n int) []byte {
	t.Helper()
	f := media.NewPool(in, 1).Get()
	defer f.Release()
	if err := encoder.DrawPattern(f, n, 0); err != nil {
		t.Fatal(err)
	}
	var luma []byte
	_ = f.CPU(func(planes [][]byte) error {
		luma = lumaOf(planes[0], in, f.Planes[0].Stride)
		return nil
	})
	return luma
}

func lumaOf(data []byte, in media.VideoFormat, stride int) []byte {
	luma := make([]byte, 0, in.Width*in.Height)
	for y := range in.Height {
		line := data[y*stride:]
		if in.FourCC != media.YUYV {
			luma = append(luma, line[:in.Width]...)
			continue
		}
		for x := range in.Width {
			luma = append(luma, line[2*x])
		}
	}
	return luma
}

func psnr(a, b []byte) float64 {
	if len(a) != len(b) {
		return 0
	}
	sum := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	if sum == 0 {
		return 99
	}
	return 10 * math.Log10(255*255*float64(len(a))/sum)
}

// decode returns the luma of what vicodec's decoder makes of the packets.
func decode(t *testing.T, packets []*media.Packet, in media.VideoFormat) (list [][]byte) {
	t.Helper()
	d, err := kernel.Open(node(t, "stateful-decoder"))
	must(t, err)
	defer d.Close()
	out, capture := d.OutputType(), d.CaptureType()
	_, err = d.SetFormat(out, kernel.Format{Width: in.Width, Height: in.Height, FourCC: fwht.fourcc, Planes: []kernel.PlaneFormat{{Size: 4 * in.Width * in.Height}}})
	must(t, err)
	must(t, d.Subscribe(uapi.EventSourceChange, 0))
	coded, err := d.NewQueue(out, uapi.MemoryMMAP, len(packets))
	must(t, err)
	defer func() { must(t, coded.Close(t.Context())) }()
	must(t, coded.StreamOn())
	for i, p := range packets {
		copy(coded.Buffer(i).Planes[0].Data, p.Data)
		must(t, coded.Enqueue(i, &kernel.Fill{Planes: []kernel.FillPlane{{Used: len(p.Data)}}, Time: p.PTS, Field: uapi.FieldNone}))
	}
	w, err := d.NewWaiter()
	must(t, err)
	defer w.Close()
	_, err = w.Wait(t.Context(), kernel.Urgent, 5*time.Second)
	must(t, err)
	f, err := d.SetFormat(capture, kernel.Format{Width: in.Width, Height: in.Height, FourCC: in.FourCC})
	must(t, err)
	pictures, err := d.NewQueue(capture, uapi.MemoryMMAP, 4)
	must(t, err)
	defer func() { must(t, pictures.Close(t.Context())) }()
	must(t, pictures.EnqueueAll())
	must(t, pictures.StreamOn())
	for len(list) < len(packets) {
		_, err := w.Wait(t.Context(), kernel.Readable, 5*time.Second)
		must(t, err)
		var done kernel.Done
		if err := pictures.Dequeue(&done); errors.Is(err, unix.EAGAIN) {
			continue
		} else if err != nil {
			t.Errorf("decode picture %d: %v", len(list), err)
			return list
		}
		list = append(list, lumaOf(pictures.Buffer(done.Index).Planes[0].Data, in, f.Planes[0].Stride))
		pictures.Return(done.Index)
	}
	return list
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func node(t *testing.T, name string) string {
	t.Helper()
	names, _ := filepath.Glob("/sys/class/video4linux/*/name")
	for _, n := range names {
		if b, _ := os.ReadFile(n); strings.TrimSpace(string(b)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(n))
		}
	}
	t.Fatalf("no node %q", name)
	return ""
}

// A camera is vivid's capture node, whose buffers are lent as Frames with DMABUFs.
type camera struct {
	dev   *kernel.Device
	queue *kernel.Queue
	wait  *kernel.Waiter
	in    media.VideoFormat
}

func openCamera(t *testing.T, w, h int) *camera {
	t.Helper()
	d, err := kernel.Open(node(t, "vivid-000-vid-cap"))
	must(t, err)
	got, err := d.SetFormat(d.CaptureType(), kernel.Format{Width: w, Height: h, FourCC: media.NV12})
	must(t, err)
	if got.Width != w || got.Height != h {
		t.Fatalf("vivid makes it %v", got)
	}
	c := &camera{dev: d, in: format(w, h, media.NV12)}
	c.queue, err = d.NewQueue(d.CaptureType(), uapi.MemoryMMAP, 6)
	must(t, err)
	must(t, c.queue.EnqueueAll())
	must(t, c.queue.StreamOn())
	c.wait, err = d.NewWaiter()
	must(t, err)
	t.Cleanup(func() {
		must(t, c.wait.Close())
		must(t, c.queue.Close(context.Background()))
		<-c.queue.Idle()
		must(t, d.Close())
	})
	return c
}

func (c *camera) read(t *testing.T) *media.Frame {
	t.Helper()
	var d kernel.Done
	for {
		_, err := c.wait.Wait(t.Context(), kernel.Readable, 5*time.Second)
		must(t, err)
		if err := c.queue.Dequeue(&d); err == nil {
			break
		} else if !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
	planes, _ := c.in.Packed()
	for i := range planes {
		planes[i].FD = c.queue.Buffer(d.Index).Planes[0].FD
	}
	f := media.NewFrame(c.in, planes, loan{c.queue, d.Index})
	f.PTS, f.Slot = d.Time, d.Index
	return f
}

type loan struct {
	queue *kernel.Queue
	index int
}

func (l loan) Release(*media.Frame) { l.queue.Return(l.index) }
func (l loan) CPU(f *media.Frame, fn func([][]byte) error) error {
	b := l.queue.Buffer(l.index)
	return b.CPU(uapi.SyncRead, func() error {
		var planes [][]byte
		for _, p := range f.Planes {
			planes = append(planes, b.Planes[0].Data[p.Offset:p.Offset+p.Len])
		}
		return fn(planes)
	})
}

// Zero copy: the camera's buffers are the encoder's input, and what comes out is the camera's picture. The counter of copies
// stays at 0. With 1080 lines the encoder looks for chroma after line 1088, where this camera, a webcam, has none: those are copied.
func TestKernelZeroCopy(t *testing.T) {
	vm.Guest(t)
	for _, c := range []struct{ w, h, imported, copied int }{{640, 480, 60, 0}, {1280, 720, 60, 0}, {1920, 1080, 0, 60}} {
		cam := openCamera(t, c.w, c.h)
		e := start(t, cam.in, encoder.Params{GOP: time.Second / 3})
		var packets []*media.Packet
		var original [][]byte
		for range 60 {
			f := cam.read(t)
			if len(original) < 8 {
				must(t, f.CPU(func(planes [][]byte) error {
					original = append(original, bytes.Clone(planes[0]))
					return nil
				}))
			}
			put(t, e, f, false)
			if p := next(t, e); p.PTS != f.PTS {
				t.Errorf("packet of %v, picture of %v", p.PTS, f.PTS)
			} else {
				packets = append(packets, p)
			}
			f.Release()
		}
		imported, copied := e.Copies()
		t.Logf("%v: %d pictures imported, %d copied", cam.in, imported, copied)
		if int(imported) != c.imported || int(copied) != c.copied {
			t.Errorf("%v: %d imported, %d copied, want %d, %d", cam.in, imported, copied, c.imported, c.copied)
		}
		must(t, e.Close())
		for i, got := range decode(t, packets[:8], cam.in) {
			if db := psnr(got, original[i]); db < 30 {
				t.Errorf("%v: picture %d: %.1f dB", cam.in, i, db)
			}
		}
		must(t, cam.queue.Close(t.Context())) // for the next size
	}
}

// An HDMI input with 1080 lines, as gantryd captures it, has chroma where the encoder looks for it.
func TestKernelZeroCopyOf1080Lines(t *testing.T) {
	vm.Guest(t)
	path := node(t, "vivid-000-vid-cap")
	cfg := v4l2.Default()
	cfg.Device, cfg.Input, cfg.Format = path, 1, "NV12"
	src, err := v4l2.Open(cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	defer src.Close()
	_, err = src.Start(t.Context()) // selects the input: each has its own cable
	must(t, err)
	vivid.Plug(t, path, vivid.T1920x1080p30)
	in, err := src.Start(t.Context())
	must(t, err)
	if in.Width != 1920 || in.Height != 1080 {
		t.Fatalf("captures %v", in)
	}
	e := start(t, in, encoder.Params{GOP: time.Second / 3})
	var packets []*media.Packet
	var original [][]byte
	for range 30 {
		f, err := src.Read(t.Context())
		must(t, err)
		if len(original) < 4 {
			must(t, f.CPU(func(planes [][]byte) error {
				original = append(original, bytes.Clone(planes[0][:1920*1080]))
				return nil
			}))
		}
		put(t, e, f, false)
		packets = append(packets, next(t, e))
		f.Release()
	}
	imported, copied := e.Copies()
	t.Logf("%v: %d pictures imported, %d copied", in, imported, copied)
	if imported != 30 || copied != 0 {
		t.Errorf("%d imported, %d copied", imported, copied)
	}
	must(t, e.Close())
	for i, got := range decode(t, packets[:4], in) {
		if db := psnr(got, original[i]); db < 30 {
			t.Errorf("picture %d: %.1f dB", i, db)
		}
	}
}

// A slate in ordinary memory between the camera's pictures: each change begins with a key frame, and nothing is lost.
func TestKernelSlateBetweenImportedPictures(t *testing.T) {
	vm.Guest(t)
	cam := openCamera(t, 640, 480)
	e := start(t, cam.in, encoder.Params{GOP: 10 * time.Second})
	if fromControl, err := e.dev.Control(uapi.CIDGOPSize); err != nil || fromControl.Max < 16 {
		t.Fatal("vicodec's GOP: ", fromControl, err)
	}
	slate := media.NewPool(cam.in, 1).Get()
	defer slate.Release()
	var pts time.Duration
	for round := range 6 {
		for i := range 10 {
			f := slate
			if round%2 == 0 {
				f = cam.read(t)
				pts = f.PTS
			} else {
				pts += time.Second / 60
				slate.PTS = pts
				must(t, encoder.DrawPattern(slate, 10*round+i, 0)) // vicodec makes a key frame of a picture that does not move
			}
			put(t, e, f, false)
			if p := next(t, e); p.PTS != f.PTS || i == 0 && !p.Key {
				t.Errorf("round %d picture %d: %v, want %v, key %v", round, i, p.PTS, f.PTS, p.Key)
			}
			if round%2 == 0 {
				f.Release()
			}
		}
	}
	if imported, copied := e.Copies(); imported != 30 || copied != 30 {
		t.Errorf("%d imported, %d copied", imported, copied)
	}
}

// vicodec has no control to force a key frame: the encoder starts anew, which makes one at exactly that picture.
func TestKernelKeyFrameOnDemandWithoutTheControl(t *testing.T) {
	vm.Guest(t)
	e := start(t, format(640, 360, media.NV12), encoder.Params{GOP: 10 * time.Second})
	for i := range 12 {
		encode(t, e, i, i+1, func(n int) bool { return n == 5 || n == 6 })
		if p := next(t, e); p.PTS != stamp(i) || p.Key != (i == 0 || i == 5 || i == 6) {
			t.Errorf("picture %d: key %v", i, p.Key)
		}
	}
}

// Distance of key frames, and changing it live.
func TestKernelGOP(t *testing.T) {
	vm.Guest(t)
	p := encoder.Params{Bitrate: 1_000_000, GOP: time.Second / 6} // 5 pictures
	e := start(t, format(640, 360, media.NV12), p)
	var keys []int
	for i := range 30 {
		if i == 15 {
			p.GOP = time.Second / 10
			must(t, e.Apply(p))
		}
		encode(t, e, i, i+1, nil)
		if next(t, e).Key {
			keys = append(keys, i)
		}
	}
	t.Logf("key frames at %v", keys)
	if len(keys) < 7 || keys[1]-keys[0] > 6 || keys[len(keys)-1]-keys[len(keys)-2] > 4 {
		t.Errorf("key frames at %v", keys)
	}
	p.Width = 320
	if err := e.Apply(p); !errors.Is(err, encoder.ErrRestart) {
		t.Errorf("another size, live: %v", err)
	}
}

// The pictures that are still inside come out after Close, and another size can be coded at once.
func TestKernelDrainAndResolutionChange(t *testing.T) {
	vm.Guest(t)
	for i := range 20 {
		e := start(t, format(640+64*(i%3), 360+16*(i%2), media.NV12), encoder.Params{})
		encode(t, e, 0, 3, nil)
		if list := drain(t, e); len(list) != 3 || !list[0].Key {
			t.Errorf("round %d: %d packets", i, len(list))
		}
	}
}

// A device that takes pictures and makes nothing of them is given up, and says so.
func TestKernelStuckOutput(t *testing.T) {
	vm.Guest(t)
	e := start(t, format(640, 360, media.NV12), encoder.Params{})
	encode(t, e, 0, 1, nil)
	next(t, e)
	must(t, e.work.run.packets.StreamOff()) // takes its buffers away: as a hung device
	must(t, e.work.run.packets.StreamOn())
	began := time.Now()
	encode(t, e, 1, 2, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*stuckAfter)
	defer cancel()
	if _, err := e.Read(ctx); !errors.Is(err, errStuck) || time.Since(began) > stuckAfter*3/2 {
		t.Errorf("read after %v: %v", time.Since(began), err)
	}
	f := media.NewPool(e.in, 1).Get()
	defer f.Release()
	if err := e.Encode(ctx, f, false); !errors.Is(err, encoder.ErrClosed) {
		t.Errorf("encode: %v", err)
	}
}

func TestKernelRefuses(t *testing.T) {
	vm.Guest(t)
	p := encoder.Params{Bitrate: 1_000_000}
	for _, b := range Backends() {
		if _, err := b.Open(t.Context(), format(640, 360, media.NV12), p); !errors.Is(err, encoder.ErrUnavailable) {
			t.Errorf("%s: %v", b.Name, err)
		}
	}
	scaled := p
	scaled.Width, scaled.Height = 320, 180
	if _, err := open(t.Context(), fwht, format(640, 360, media.NV12), scaled); !errors.Is(err, encoder.ErrUnavailable) {
		t.Errorf("scaling: %v", err)
	}
	if _, err := open(t.Context(), fwht, format(640, 360, media.MJPG), p); !errors.Is(err, encoder.ErrUnavailable) {
		t.Errorf("MJPEG: %v", err)
	}
}
