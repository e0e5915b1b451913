package v4l2

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testkit"
	"gantry/internal/testkit/vm"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestInVM runs the tests named TestKernel... in a guest with two vivid devices, the second multi-planar, each with a webcam
// and an HDMI input, and with vicodec.
func TestInVM(t *testing.T) {
	vm.RunTests(t, vm.Options{Vivid: "n_devs=2 node_types=0x1,0x1 num_inputs=2,2 input_types=0xc,0xc multiplanar=1,2", TimeTravel: true}, "^TestKernel")
}

const (
	webcam = 0
	hdmi   = 1

	// Controls of vivid.
	cidSignalMode    = 0x00f0f03e
	cidTimings       = 0x00f0f03f
	signalPresent    = 0
	signalNone       = 1
	signalUnlocked   = 2
	signalOutOfRange = 3
	signalSelected   = 4
	timings720p60    = 9
	timings1080p60   = 16
)

// node returns the node that a driver registered under name.
func node(t *testing.T, name string) string {
	t.Helper()
	names, err := filepath.Glob("/sys/class/video4linux/*/name")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if b, _ := os.ReadFile(n); strings.TrimSpace(string(b)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(n))
		}
	}
	t.Fatalf("no node %q; there are %v", name, names)
	return ""
}

func open(t *testing.T, name string) *Device {
	t.Helper()
	d, err := Open(node(t, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func waiter(t *testing.T, d *Device) *Waiter {
	t.Helper()
	w, err := d.NewWaiter()
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var capture = []string{"vivid-000-vid-cap", "vivid-001-vid-cap"} // single- and multi-planar

func TestKernelDescribes(t *testing.T) {
	vm.Guest(t)
	d := open(t, capture[0])
	if d.Driver() != "vivid" || d.Card() != "vivid" || d.Bus() != "platform:vivid-000" {
		t.Errorf("driver %q card %q bus %q", d.Driver(), d.Card(), d.Bus())
	}
	if d.CaptureType() != uapi.VideoCapture || d.OutputType() != 0 || d.Mem2Mem() {
		t.Errorf("queues %d, %d", d.CaptureType(), d.OutputType())
	}
	if m := open(t, capture[1]); m.CaptureType() != uapi.VideoCaptureMplane {
		t.Errorf("the multi-planar node's queue is %d", m.CaptureType())
	}
	inputs, err := d.Inputs()
	must(t, err)
	if len(inputs) != 2 || inputs[webcam].DVTimings || !inputs[hdmi].DVTimings || !strings.HasPrefix(inputs[hdmi].Name, "HDMI") {
		t.Errorf("inputs %+v", inputs)
	}
	formats, err := d.Formats(uapi.VideoCapture)
	must(t, err)
	found := 0
	for _, f := range formats {
		switch f.FourCC {
		case media.NV12, media.YUYV, media.UYVY, media.YU12:
			found++
		}
	}
	if found != 4 {
		t.Errorf("%d of 4 layouts in %v", found, formats)
	}
	must(t, d.SelectInput(webcam))
	sizes, err := d.FrameSizes(media.NV12)
	must(t, err)
	if len(sizes) == 0 || sizes[0].MinWidth != 320 {
		t.Errorf("sizes %v", sizes)
	}
	rates, err := d.FrameRates(media.NV12, 1280, 720)
	must(t, err)
	if len(rates) == 0 {
		t.Error("no rates")
	}
	controls, err := d.Controls()
	must(t, err)
	for _, c := range controls {
		if c.ID != cidSignalMode {
			continue
		}
		menu, err := d.Menu(c)
		must(t, err)
		if menu[signalNone] != "No Signal" {
			t.Errorf("menu %v", menu)
		}
		return
	}
	t.Errorf("no signal mode among %d controls", len(controls))
}

// stream captures n buffers of a format and checks what the driver says about them.
func stream(t *testing.T, d *Device, want Format, n int) {
	t.Helper()
	typ := d.CaptureType()
	got, err := d.SetFormat(typ, want)
	must(t, err)
	if got.Width != want.Width || got.Height != want.Height || got.FourCC != want.FourCC {
		t.Fatalf("format %v, asked for %v", got, want)
	}
	q, err := d.NewQueue(typ, uapi.MemoryMMAP, 4)
	must(t, err)
	defer func() { must(t, q.Close(t.Context())) }()
	must(t, q.EnqueueAll())
	must(t, q.StreamOn())
	w := waiter(t, d)
	last := time.Duration(0)
	for range n {
		var done Done
		next(t, w, q, &done)
		if done.Time <= last {
			t.Fatalf("timestamp %v after %v", done.Time, last)
		}
		last = done.Time
		if done.Flags&uapi.BufFlagTimestampMask != uapi.BufFlagMonotonic {
			t.Errorf("flags %#x: no monotonic timestamp", done.Flags)
		}
		if done.Planes != len(got.Planes) {
			t.Errorf("%d planes, the format has %d", done.Planes, len(got.Planes))
		}
		b := q.Buffer(done.Index)
		for i, p := range got.Planes {
			if done.Used[i] < p.Stride || b.Planes[i].FD < 0 || len(b.Planes[i].Data) < done.Used[i] {
				t.Errorf("plane %d of %d bytes: used %d, mapped %d, DMABUF %d", i, p.Size, done.Used[i], len(b.Planes[i].Data), b.Planes[i].FD)
			}
		}
		must(t, b.CPU(uapi.SyncRead, func() error {
			if b.Planes[0].Data[0] == b.Planes[0].Data[len(b.Planes[0].Data)/3] && b.Planes[0].Data[0] == 0 {
				t.Error("the picture looks empty")
			}
			return nil
		}))
		q.Return(done.Index)
	}
}

// next waits for a finished buffer.
func next(t *testing.T, w *Waiter, q *Queue, done *Done) {
	t.Helper()
	for {
		ready, err := w.Wait(t.Context(), Readable, 5*time.Second)
		must(t, err)
		if ready == 0 {
			t.Fatal("nothing in 5 s")
		}
		err = q.Dequeue(done)
		if !errors.Is(err, unix.EAGAIN) {
			must(t, err)
			return
		}
	}
}

func TestKernelCaptures(t *testing.T) {
	vm.Guest(t)
	for _, c := range []struct {
		device string
		fourcc string
	}{{capture[0], "YUYV"}, {capture[0], "NV12"}, {capture[0], "YU12"}, {capture[1], "NM12"}, {capture[1], "YM12"}, {capture[1], "NV12"}} {
		t.Run(c.device+" "+c.fourcc, func(t *testing.T) {
			d := open(t, c.device)
			must(t, d.SelectInput(webcam))
			stream(t, d, Format{Width: 640, Height: 360, FourCC: media.NewFourCC(c.fourcc)}, 10)
		})
	}
}

func TestKernelRate(t *testing.T) {
	vm.Guest(t)
	d := open(t, capture[0])
	must(t, d.SelectInput(webcam))
	_, err := d.SetFormat(d.CaptureType(), Format{Width: 640, Height: 360, FourCC: media.YUYV})
	must(t, err)
	got, err := d.SetFrameRate(d.CaptureType(), media.Rational{Num: 15, Den: 1})
	must(t, err)
	set, adjustable, err := d.FrameRate(d.CaptureType())
	must(t, err)
	if want := (media.Rational{Num: 15, Den: 1}); got != want || set != want || !adjustable {
		t.Errorf("rate %v, then %v, adjustable %v; asked for %v", got, set, adjustable, want)
	}
}

// Buffers that are lent outlive their queue, and a new one starts beside them.
func TestKernelLentBuffersOutliveTheQueue(t *testing.T) {
	vm.Guest(t)
	d := open(t, capture[0])
	must(t, d.SelectInput(webcam))
	_, err := d.SetFormat(d.CaptureType(), Format{Width: 640, Height: 360, FourCC: media.NV12})
	must(t, err)
	q, err := d.NewQueue(d.CaptureType(), uapi.MemoryMMAP, 4)
	must(t, err)
	must(t, q.EnqueueAll())
	must(t, q.StreamOn())
	w := waiter(t, d)
	var done Done
	next(t, w, q, &done)
	must(t, q.Close(t.Context()))
	sum := 0
	for _, v := range q.Buffer(done.Index).Planes[0].Data {
		sum += int(v)
	}
	if sum == 0 {
		t.Error("the lent picture is empty")
	}
	stream(t, d, Format{Width: 1280, Height: 720, FourCC: media.NV12}, 3)
	select {
	case <-q.Idle():
		t.Error("idle with a buffer lent")
	default:
	}
	q.Return(done.Index)
	<-q.Idle()
}

func TestKernelTimings(t *testing.T) {
	vm.Guest(t)
	d := open(t, capture[0])
	w := waiter(t, d)
	must(t, d.SelectInput(hdmi))
	must(t, d.Subscribe(uapi.EventSourceChange, hdmi))
	must(t, d.SetControls(Setting{cidSignalMode, signalSelected}, Setting{cidTimings, timings720p60}))
	defer func() { must(t, d.SetControls(Setting{cidSignalMode, signalPresent})) }()
	for _, c := range []struct {
		mode   int64
		err    error
		status uint32
	}{
		{signalNone, unix.ENOLINK, uapi.InStNoSignal},
		{signalUnlocked, unix.ENOLCK, uapi.InStNoHLock},
		{signalOutOfRange, unix.ERANGE, uapi.InStNoHLock},
		{signalSelected, nil, 0},
	} {
		drain(t, d)
		must(t, d.SetControls(Setting{cidSignalMode, c.mode}))
		ready, err := w.Wait(t.Context(), Urgent, 5*time.Second)
		must(t, err)
		if ready != Urgent {
			t.Errorf("mode %d: ready for %#x, want an event", c.mode, ready)
		}
		if e, ok, err := d.NextEvent(); err != nil || !ok || e.Type != uapi.EventSourceChange || e.SourceChange() != uapi.SrcChResolution {
			t.Errorf("mode %d: event %+v, %v, %v", c.mode, e, ok, err)
		}
		if _, err := d.QueryTimings(); !errors.Is(err, c.err) {
			t.Errorf("mode %d: query %v, want %v", c.mode, err, c.err)
		}
		if in, err := d.Input(hdmi); err != nil || in.Status != c.status {
			t.Errorf("mode %d: status %#x, %v, want %#x", c.mode, in.Status, err, c.status)
		}
	}
	must(t, d.SetControls(Setting{cidTimings, timings1080p60}))
	seen, err := d.QueryTimings()
	must(t, err)
	if got := DescribeTimings(seen); got != "1920x1080p60" {
		t.Errorf("timings %s", got)
	}
	must(t, d.SetTimings(seen))
	if set, err := d.Timings(); err != nil || !SameTimings(set, seen) {
		t.Errorf("set %v, %v", DescribeTimings(set), err)
	}
	list, err := d.ListTimings()
	must(t, err)
	limits, err := d.TimingsCap()
	must(t, err)
	if len(list) < 50 || limits.MaxWidth < 4096 || limits.MaxPixelClock.Value() < 600e6 {
		t.Errorf("%d timings, limits %+v", len(list), limits)
	}
	if v, err := d.GetControl(cidTimings); err != nil || v != timings1080p60 {
		t.Errorf("control reads %d, %v", v, err)
	}
}

func drain(t *testing.T, d *Device) {
	t.Helper()
	for {
		if _, ok, err := d.NextEvent(); err != nil || !ok {
			must(t, err)
			return
		}
	}
}

func TestKernelEDID(t *testing.T) {
	vm.Guest(t)
	d := open(t, capture[0])
	must(t, d.SelectInput(hdmi))
	edid, err := d.EDID(hdmi)
	must(t, err)
	if len(edid) != 256 || string(edid[:8]) != "\x00\xff\xff\xff\xff\xff\xff\x00" {
		t.Fatalf("EDID of %d bytes % x", len(edid), edid)
	}
	must(t, d.SetEDID(hdmi, nil))
	if got, err := d.EDID(hdmi); err != nil || got != nil {
		t.Errorf("cleared EDID: %d bytes, %v", len(got), err)
	}
	if _, err := d.QueryTimings(); !errors.Is(err, unix.ENOLINK) {
		t.Errorf("query without EDID: %v", err)
	}
	must(t, d.SetEDID(hdmi, edid))
	if got, err := d.EDID(hdmi); err != nil || string(got) != string(edid) {
		t.Errorf("EDID set again: %d bytes, %v", len(got), err)
	}
	if err := d.SetEDID(hdmi, edid[:100]); err == nil {
		t.Error("part of a block was taken")
	}
}

func TestKernelWaitEndsWithItsContext(t *testing.T) {
	vm.Guest(t)
	d := open(t, capture[0])
	w := waiter(t, d)
	for _, before := range []bool{true, false, false} {
		ctx, cancel := context.WithCancel(t.Context())
		if before {
			cancel()
		} else {
			time.AfterFunc(20*time.Millisecond, cancel)
		}
		if _, err := w.Wait(ctx, Urgent, -1); !errors.Is(err, context.Canceled) {
			t.Errorf("wait: %v", err)
		}
		cancel()
	}
	if ready, err := w.Wait(t.Context(), Urgent, 10*time.Millisecond); ready != 0 || err != nil {
		t.Errorf("wait after a cancelled one: %#x, %v", ready, err)
	}
}

func TestOpenWhatIsNoDevice(t *testing.T) {
	if _, err := Open("/dev/no-such-node"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing node: %v", err)
	}
	if _, err := Open("/dev/null"); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("/dev/null: %v", err)
	}
}

func TestTimingsRate(t *testing.T) {
	full := uapi.DVTimings{Width: 1920, Height: 1080, HFrontPorch: 88, HSync: 44, HBackPorch: 148, VFrontPorch: 4, VSync: 5, VBackPorch: 36}
	for _, c := range []struct {
		clock uint64
		want  string
	}{{148500000, "1920x1080p60"}, {148351648, "1920x1080p60000/1001"}, {74250000, "1920x1080p30"}, {148350000, "1920x1080p60000/1001"}, {0, "1920x1080p0/0"}} {
		full.PixelClock = uapi.NewUint64(c.clock)
		if got := DescribeTimings(full); got != c.want {
			t.Errorf("%d Hz: %s, want %s", c.clock, got, c.want)
		}
	}
	a, b := full, full
	a.PixelClock, b.PixelClock = uapi.NewUint64(148500000), uapi.NewUint64(148351648)
	if SameTimings(a, b) {
		t.Error("60 and 59.94 are taken for the same")
	}
	b.PixelClock = uapi.NewUint64(148500000 + 20000)
	if !SameTimings(a, b) {
		t.Error("a clock measured 135 ppm off is taken for another")
	}
}
