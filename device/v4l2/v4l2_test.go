package v4l2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/device"
	"gantry/device/v4l2/edid"
	"gantry/internal/clock"
	"gantry/internal/testkit"
	"gantry/internal/testkit/vm"
	kernel "gantry/internal/v4l2"
	"gantry/media"
)

var _ device.Source = (*Source)(nil)

func TestMain(m *testing.M) { testkit.Main(m) }

// guest has two vivid devices, the second multi-planar, each with a webcam, an HDMI and a television input.
var guest = vm.Options{Vivid: "n_devs=2 node_types=0x1,0x1 num_inputs=3,3 input_types=0x1c,0x1c multiplanar=1,2", TimeTravel: true}

// TestInVM runs the tests named TestKernel... on vivid.
func TestInVM(t *testing.T) { vm.RunTests(t, guest, "^TestKernel") }

const (
	single = "vivid-000-vid-cap"
	multi  = "vivid-001-vid-cap"

	webcam = 0
	hdmi   = 1
	tv     = 2

	// Controls of vivid.
	cidSignalMode    = 0x00f0f03e
	cidTimings       = 0x00f0f03f
	cidStandardMode  = 0x00f0f03c
	cidStandard      = 0x00f0f03d
	cidDropped       = 0x00f0f040
	cidBufferError   = 0x00f0f042
	cidQueueError    = 0x00f0f044
	cidFatal         = 0x00f0f046
	signalPresent    = 0
	signalNone       = 1
	signalUnlocked   = 2
	signalOutOfRange = 3
	signalSelected   = 4
	timings480p      = 0
	timings720p60    = 9
	timings1080p60   = 16
)

// node returns the node that vivid registered under name.
func node(t testing.TB, name string) string {
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

func config(t testing.TB, name string, input int) Config {
	c := Default()
	c.Device, c.Input = node(t, name), input
	return c
}

func open(t testing.TB, c Config) *Source {
	t.Helper()
	s, err := Open(c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func start(t testing.TB, s *Source) media.VideoFormat {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, err := s.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t testing.TB, s *Source) *media.Frame {
	t.Helper()
	f, err := readWithin(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func readWithin(t testing.TB, s *Source) (*media.Frame, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Read(ctx)
}

// readUntilError releases pictures until Read fails.
func readUntilError(t testing.TB, s *Source) error {
	t.Helper()
	for range 1000 {
		f, err := readWithin(t, s)
		if err != nil {
			return err
		}
		f.Release()
	}
	t.Fatal("1000 pictures and no error")
	return nil
}

// set sets controls of vivid, as hands at the cable would.
func set(t testing.TB, path string, settings ...kernel.Setting) {
	t.Helper()
	d, err := kernel.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.SetControls(settings...); err != nil {
		t.Fatal(err)
	}
}

// signal sets what the HDMI input of a device receives.
func hdmiSignal(t testing.TB, path string, mode int64) {
	t.Helper()
	set(t, path, kernel.Setting{ID: cidSignalMode, Value: mode})
}

// plug lets the HDMI input of a device receive timings until the test ends.
func plug(t testing.TB, path string, timings int64) {
	t.Helper()
	set(t, path, kernel.Setting{ID: cidSignalMode, Value: signalSelected}, kernel.Setting{ID: cidTimings, Value: timings})
}

func TestKernelCaptures(t *testing.T) {
	vm.Guest(t)
	for _, c := range []struct{ device, format string }{
		{single, "YUYV"}, {single, "UYVY"}, {single, "NV12"}, {single, "YU12"}, {single, "NV16"}, {single, "NV24"}, {single, "BGR3"},
		{multi, "NV12"}, {multi, "NM12"}, {multi, "YM12"}, {multi, "NM16"}, {multi, "YUYV"},
	} {
		t.Run(c.device+" "+c.format, func(t *testing.T) {
			cfg := config(t, c.device, webcam)
			cfg.Width, cfg.Height, cfg.Format, cfg.Rate = 640, 360, c.format, media.Rational{Num: 30, Den: 1}
			s := open(t, cfg)
			format := start(t, s)
			if format.Width != 640 || format.Height != 360 || format.Rate != cfg.Rate || format.Field != media.Progressive {
				t.Errorf("format %v", format)
			}
			packed, _ := format.Packed()
			var last *media.Frame
			for i := range 35 {
				f := read(t, s)
				if f.Format != format {
					t.Fatalf("picture of format %v, started with %v", f.Format, format)
				}
				if last != nil && (f.PTS <= last.PTS || f.Seq <= last.Seq) {
					t.Errorf("picture %d: %v, sequence %d after %v, %d", i, f.PTS, f.Seq, last.PTS, last.Seq)
				}
				// vivid stamps with the end of a frame that it has yet to come to: up to one interval ahead.
				if age := clock.Now() - f.PTS; age < -cfg.Rate.Interval() || age > time.Second {
					t.Errorf("picture %d is %v old", i, age)
				}
				if err := f.CPU(func(planes [][]byte) error { return checkPlanes(f, packed, planes) }); err != nil {
					t.Error(err)
				}
				if last != nil {
					last.Release()
				}
				last = f
			}
			last.Release()
		})
	}
}

// checkPlanes expects vivid's colour bars: something in each plane, and for chroma something but grey.
func checkPlanes(f *media.Frame, packed []media.Plane, planes [][]byte) error {
	if len(planes) != len(packed) || len(f.Planes) != len(packed) {
		return errors.New("wrong number of planes")
	}
	for i, p := range planes {
		if f.Planes[i].FD < 0 || f.Planes[i].Stride < packed[i].Stride || len(p) < packed[i].Len {
			return errors.New("plane without DMABUF, or too small")
		}
		least, most := p[0], p[0]
		line := len(p) / 2 / f.Planes[i].Stride * f.Planes[i].Stride
		for _, v := range p[line : line+packed[i].Stride] {
			least, most = min(least, v), max(most, v)
		}
		if most-least < 50 {
			return errors.New("no colour bars in a plane")
		}
	}
	return nil
}

func TestKernelFollowsTheSignal(t *testing.T) {
	vm.Guest(t)
	for _, c := range []struct {
		timings       int64
		width, height int
		rate          media.Rational
	}{
		{timings720p60, 1280, 720, media.Rational{Num: 60, Den: 1}},
		{timings480p, 640, 480, media.Rational{Num: 60000, Den: 1001}},
		{timings1080p60, 1920, 1080, media.Rational{Num: 60, Den: 1}},
	} {
		cfg := config(t, single, hdmi)
		plug(t, cfg.Device, c.timings)
		s := open(t, cfg)
		f := start(t, s)
		if f.Width != c.width || f.Height != c.height || f.Rate != c.rate {
			t.Errorf("format %v, signal %dx%d at %v", f, c.width, c.height, c.rate)
		}
		read(t, s).Release()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKernelSignalLossAndReturn(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, hdmi)
	plug(t, cfg.Device, timings720p60)
	defer plug(t, cfg.Device, timings720p60)
	s := open(t, cfg)
	format := start(t, s)
	for _, c := range []struct {
		mode   int64
		reason string
	}{{signalNone, "nothing is connected"}, {signalUnlocked, "cannot lock"}, {signalOutOfRange, "beyond the receiver"}} {
		read(t, s).Release()
		hdmiSignal(t, cfg.Device, c.mode)
		// vivid's pictures go on: the event ends them.
		err := readUntilError(t, s)
		if !errors.Is(err, device.ErrNoSignal) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("mode %d: %v", c.mode, err)
		}
		if _, again := s.Read(t.Context()); !errors.Is(again, device.ErrNoSignal) {
			t.Errorf("mode %d: the next read: %v", c.mode, again)
		}
		if st := s.Status(); st.Streaming || !strings.Contains(st.Reason, c.reason) || st.Format != format {
			t.Errorf("mode %d: status %+v", c.mode, st)
		}
		// Nothing comes: Start waits until it is told not to.
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := s.Start(ctx); !errors.Is(err, device.ErrNoSignal) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("mode %d: start without a signal: %v", c.mode, err)
		}
		cancel()
		// It comes while Start waits.
		timer := time.AfterFunc(100*time.Millisecond, func() { hdmiSignal(t, cfg.Device, signalSelected) })
		if f := start(t, s); f != format {
			t.Errorf("mode %d: %v after the signal's return, before %v", c.mode, f, format)
		}
		timer.Stop()
		if st := s.Status(); !st.Streaming || st.Reason != "" {
			t.Errorf("mode %d: status %+v after the signal's return", c.mode, st)
		}
	}
}

func TestKernelFormatChange(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, hdmi)
	plug(t, cfg.Device, timings720p60)
	s := open(t, cfg)
	start(t, s)
	held := read(t, s) // stays valid over the restart
	plug(t, cfg.Device, timings1080p60)
	if err := readUntilError(t, s); !errors.Is(err, device.ErrFormatChanged) || !strings.Contains(err.Error(), "1920x1080p60") {
		t.Errorf("read: %v", err)
	}
	if f := start(t, s); f.Width != 1920 || f.Height != 1080 {
		t.Errorf("format %v", f)
	}
	f := read(t, s)
	if err := held.CPU(func(planes [][]byte) error {
		if held.Format.Width != 1280 || len(planes[0]) < 1280*720 || planes[0][len(planes[0])/2] == 0 {
			return errors.New("the picture of the earlier run is damaged")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	f.Release()
	held.Release()
}

// The signal flickers but comes back the same: nobody needs to restart.
func TestKernelEventWithoutChange(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, hdmi)
	plug(t, cfg.Device, timings720p60)
	s := open(t, cfg)
	start(t, s)
	plug(t, cfg.Device, timings1080p60)
	plug(t, cfg.Device, timings720p60)
	for range 10 {
		read(t, s).Release()
	}
}

// Without a signal Start tells each new reason once, and each kind of it by its own error.
func TestKernelStartTellsWhy(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, hdmi)
	hdmiSignal(t, cfg.Device, signalNone)
	defer plug(t, cfg.Device, timings720p60)
	s := open(t, cfg)
	for _, c := range []struct {
		mode int64
		kind error
	}{{signalNone, device.ErrNoSignal}, {signalUnlocked, device.ErrNoLock}, {signalOutOfRange, device.ErrOutOfRange}, {signalUnlocked, device.ErrNoLock}} {
		hdmiSignal(t, cfg.Device, c.mode)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := s.Start(ctx); !errors.Is(err, c.kind) || !errors.Is(err, device.ErrNoSignal) || ctx.Err() != nil {
			t.Errorf("mode %d: %v", c.mode, err)
		}
		if _, err := s.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("mode %d, told again: %v", c.mode, err)
		}
		cancel()
	}
	plug(t, cfg.Device, timings720p60)
	start(t, s)
	read(t, s).Release()
}

func TestKernelEDID(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, hdmi)
	plug(t, cfg.Device, timings720p60)
	for _, name := range edid.Presets() {
		cfg.EDID = name
		s := open(t, cfg)
		start(t, s)
		read(t, s).Release()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := ReadEDID("name:"+single, hdmi)
		want, _ := edid.Preset(name)
		// vivid writes the physical address and the checksum itself.
		if info, parse := edid.Parse(got); err != nil || parse != nil || info.Name != "Gantry"+name || len(got) != len(want) {
			t.Errorf("%s: read back %v %d bytes, %v, %v", name, info, len(got), err, parse)
		}
	}
	// A file, over the command's functions.
	file := filepath.Join(t.TempDir(), "edid.bin")
	data, _ := edid.Preset("1080p30")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadEDID(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of a file, %v", len(got), err)
	}
	cfg.EDID = file
	s := open(t, cfg)
	start(t, s)
	read(t, s).Release()
	// Cleared, the sender sees no display: no signal, until an EDID is set again.
	if err := WriteEDID(cfg.Device, hdmi, nil); err != nil {
		t.Fatal(err)
	}
	if err := readUntilError(t, s); !errors.Is(err, device.ErrNoSignal) {
		t.Errorf("read after the EDID was cleared: %v", err)
	}
	if got, err := ReadEDID(cfg.Device, hdmi); err != nil || got != nil {
		t.Errorf("cleared: %d bytes, %v", len(got), err)
	}
	start(t, s) // which sets it
	read(t, s).Release()

	if _, err := ReadEDID(cfg.Device, webcam); !errors.Is(err, device.ErrUnsupported) {
		t.Errorf("EDID of a webcam: %v", err)
	}
	data[130]++
	if err := WriteEDID(cfg.Device, hdmi, data); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged EDID: %v", err)
	}
}

// vimc is a camera of the media controller: its sub-devices are found through the graph, the sensor's format is handed down to
// the node, and pictures come. It has no digital timings: receivers among sub-devices have been seen on no kernel of ours.
func TestKernelMediaController(t *testing.T) {
	vm.Guest(t)
	path := node(t, "RGB/YUV Capture")
	g, err := kernel.GraphOf(path)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := g.Upstream(path)
	if err = errors.Join(err, g.Close()); err != nil {
		t.Fatal(err)
	}
	source := chain[len(chain)-1]
	sensor, err := kernel.OpenSubdev(source.Node)
	if err != nil {
		t.Fatal(err)
	}
	f, err := sensor.PadFormat(source.Out)
	if err == nil {
		f.Width, f.Height, f.Code = 320, 240, 0x3001 // SBGGR8, which vimc's debayer takes
		_, err = sensor.SetPadFormat(source.Out, f)
	}
	if err = errors.Join(err, sensor.Close()); err != nil {
		t.Fatal(err)
	}
	raw, err := kernel.Open(node(t, "Raw Capture 0")) // the kernel checks this branch too
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.SetFormat(raw.CaptureType(), kernel.Format{Width: 320, Height: 240, FourCC: media.NewFourCC("BA81")})
	if err = errors.Join(err, raw.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, config(t, "RGB/YUV Capture", -1))
	if f := start(t, s); f.Width != 320 || f.Height != 240 || f.FourCC != media.RGB3 && f.FourCC != media.BGR3 {
		t.Errorf("format %v", f)
	}
	for range 5 {
		read(t, s).Release()
	}
}

// A node is found by its bus and its name, whatever its number.
func TestKernelFind(t *testing.T) {
	vm.Guest(t)
	path := node(t, single)
	for _, name := range []string{path, "bus:platform:vivid-000", "name:" + single} {
		if got, err := Find(name); err != nil || got != path {
			t.Errorf("%s: %s, %v, want %s", name, got, err, path)
		}
	}
	for _, name := range []string{"bus:usb-1", "name:nothing", "bus:platform:vicodec"} {
		if got, err := Find(name); !errors.Is(err, device.ErrNotFound) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

// vivid's television input says which standard it receives; the box follows, or sets the one it is told.
func TestKernelStandard(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, tv)
	for _, c := range []struct {
		standard string
		height   int
		rate     media.Rational
	}{{"ntsc", 480, media.Rational{Num: 30000, Den: 1001}}, {"pal", 576, media.Rational{Num: 25, Den: 1}}, {"auto", 576, media.Rational{Num: 25, Den: 1}}} {
		cfg.Standard = c.standard
		s := open(t, cfg)
		if f := start(t, s); f.Height != c.height || f.Rate != c.rate {
			t.Errorf("%s: %v", c.standard, f)
		}
		read(t, s).Release()
		if c.standard == auto {
			set(t, cfg.Device, kernel.Setting{ID: cidStandardMode, Value: 4}, kernel.Setting{ID: cidStandard, Value: 1}) // NTSC_M
			if err := readUntilError(t, s); !errors.Is(err, device.ErrFormatChanged) {
				t.Errorf("another standard: %v", err)
			}
			if f := start(t, s); f.Height != 480 {
				t.Errorf("another standard: %v", f)
			}
			set(t, cfg.Device, kernel.Setting{ID: cidStandardMode, Value: signalNone})
			if err := readUntilError(t, s); !errors.Is(err, device.ErrNoSignal) {
				t.Errorf("no television signal: %v", err)
			}
			set(t, cfg.Device, kernel.Setting{ID: cidStandardMode, Value: signalPresent})
			start(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKernelAnalogueInput(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, tv)
	s := open(t, cfg)
	if f := start(t, s); f.Width != 720 || f.Field == media.Progressive {
		t.Errorf("format %+v", f)
	}
	for range 5 {
		read(t, s).Release()
	}
}

func TestKernelBusy(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, webcam)
	first := open(t, cfg)
	start(t, first)
	second := open(t, cfg)
	_, err := second.Start(t.Context())
	if !errors.Is(err, device.ErrBusy) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("second program: %v", err)
	}
	read(t, first).Release()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, second)
	read(t, second).Release()
}

func TestKernelRefuses(t *testing.T) {
	vm.Guest(t)
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"layout", func(c *Config) { c.Format = "NM12" }, "it offers YUYV"},
		{"size", func(c *Config) { c.Width, c.Height = 642, 362 }, "it offers 320x180"},
		{"rate", func(c *Config) { c.Width, c.Height, c.Rate = 1920, 1080, media.Rational{Num: 333, Den: 1} }, "it offers"},
		{"input", func(c *Config) { c.Input = 7 }, "1 (HDMI 0"},
		{"rate of a signal", func(c *Config) { c.Input, c.Rate = hdmi, media.Rational{Num: 17, Den: 1} }, "the signal is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t, single, webcam)
			plug(t, cfg.Device, timings720p60)
			c.change(&cfg)
			s := open(t, cfg)
			_, err := s.Start(t.Context())
			if !errors.Is(err, device.ErrUnsupported) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
	if _, err := Open(config(t, "stateful-encoder", -1), slog.Default()); !errors.Is(err, device.ErrUnsupported) {
		t.Errorf("an encoder as a camera: %v", err)
	}
}

// All pictures are in use downstream: the device waits for one to come back, and goes on.
func TestKernelAllFramesHeld(t *testing.T) {
	vm.Guest(t)
	s := open(t, config(t, single, webcam))
	start(t, s)
	var held []*media.Frame
	for range s.run.queue.Len() {
		held = append(held, read(t, s))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if _, err := s.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read with all pictures held: %v", err)
	}
	for _, f := range held {
		f.Release()
	}
	read(t, s).Release()
}

func TestKernelCloseWaitsForFrames(t *testing.T) {
	vm.Guest(t)
	s := open(t, config(t, single, webcam))
	start(t, s)
	f := read(t, s)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case <-closed:
		t.Error("closed with a picture in use")
	case <-time.After(50 * time.Millisecond):
	}
	f.Release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestKernelDamagedPictures(t *testing.T) {
	vm.Guest(t)
	s := open(t, config(t, single, webcam))
	start(t, s)
	read(t, s).Release()
	set(t, s.cfg.Device, kernel.Setting{ID: cidBufferError, Value: 1})
	for range 20 {
		read(t, s).Release()
	}
	if n := s.Status().Bad; n != 1 {
		t.Errorf("%d damaged pictures, one was made", n)
	}
}

func TestKernelLostPictures(t *testing.T) {
	vm.Guest(t)
	cfg := config(t, single, webcam)
	// At five a second, all those of two seconds are dropped now and then, which is no signal.
	cfg.Width, cfg.Height, cfg.Rate = 640, 360, media.Rational{Num: 30, Den: 1}
	set(t, cfg.Device, kernel.Setting{ID: cidDropped, Value: 50})
	defer set(t, cfg.Device, kernel.Setting{ID: cidDropped, Value: 0})
	s := open(t, cfg)
	start(t, s)
	first := read(t, s)
	first.Release()
	for range 29 {
		read(t, s).Release()
	}
	last := read(t, s)
	last.Release()
	if last.Seq-first.Seq <= 30 {
		t.Errorf("half the pictures were dropped, and the sequence went from %d to %d in 31", first.Seq, last.Seq)
	}
}

func TestKernelBrokenStream(t *testing.T) {
	vm.Guest(t)
	s := open(t, config(t, single, webcam))
	start(t, s)
	read(t, s).Release()
	set(t, s.cfg.Device, kernel.Setting{ID: cidFatal, Value: 1})
	if err := readUntilError(t, s); !errors.Is(err, device.ErrGone) {
		t.Errorf("read after a fatal error: %v", err)
	}
}

// TestKernelUnplug runs last: the nodes come back under other numbers.
func TestKernelUnplug(t *testing.T) {
	vm.Guest(t)
	s := open(t, config(t, single, webcam))
	start(t, s)
	held := read(t, s)
	bind(t, "unbind")
	if err := readUntilError(t, s); !errors.Is(err, device.ErrGone) || !strings.Contains(err.Error(), "unplugged") {
		t.Errorf("read after the device was unplugged: %v", err)
	}
	if _, err := s.Start(t.Context()); !errors.Is(err, device.ErrGone) {
		t.Errorf("start after the device was unplugged: %v", err)
	}
	if _, err := Open(s.cfg, slog.Default()); !errors.Is(err, device.ErrNotFound) {
		t.Errorf("open after the device was unplugged: %v", err)
	}
	held.Release()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	bind(t, "bind")
	again := open(t, config(t, single, webcam))
	start(t, again)
	read(t, again).Release()
}

func bind(t *testing.T, what string) {
	t.Helper()
	if err := os.WriteFile("/sys/bus/platform/drivers/vivid/"+what, []byte("vivid.0"), 0); err != nil {
		t.Fatal(err)
	}
}

func TestKernelCancelledRead(t *testing.T) {
	vm.Guest(t)
	s := open(t, config(t, single, webcam))
	start(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled read: %v", err)
	}
	read(t, s).Release() // and it goes on
}

func TestKernelList(t *testing.T) {
	vm.Guest(t)
	path := node(t, single)
	plug(t, path, timings720p60)
	s := open(t, config(t, single, hdmi))
	start(t, s)
	for _, info := range List() {
		if info.Driver == "vicodec" || info.Driver == "vim2m" {
			t.Errorf("%s converts, and is listed as an input", info.Node)
		}
		if info.Node != path {
			continue
		}
		if info.Driver != "vivid" || info.Name != single || info.Bus != "platform:vivid-000" || len(info.Inputs) != 3 || !info.Inputs[hdmi].Selected || !info.Inputs[hdmi].Digital ||
			info.Inputs[hdmi].Signal != "1280x720p60" || !strings.HasPrefix(info.Current, "1280x720 ") || len(info.Formats) < 50 {
			t.Errorf("listed as %+v", info)
		}
		return
	}
	t.Errorf("%s is not listed", path)
}

// BenchmarkInVM runs the benchmarks named BenchmarkKernel... on vivid, and prints what they measure. The guest is slower than
// the machine at system calls.
func BenchmarkInVM(b *testing.B) {
	o := guest
	o.TimeTravel = false
	vm.RunBenchmarks(b, o, "^BenchmarkKernel", "-test.benchtime=300x")
}

// BenchmarkKernelFrame measures our own part of a picture: take it from the driver, make a Frame, give it back.
func BenchmarkKernelFrame(b *testing.B) {
	vm.Guest(b)
	cfg := config(b, single, webcam)
	cfg.Width, cfg.Height, cfg.Format, cfg.Buffers, cfg.Rate = 320, 180, "YUYV", 32, media.Rational{Num: 60, Den: 1}
	s := open(b, cfg)
	start(b, s)
	b.ReportAllocs()
	b.ResetTimer()
	var own time.Duration
	for range b.N {
		if _, err := s.waiter.Wait(context.Background(), kernel.Readable, -1); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		f, err := s.Read(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		f.Release()
		own += time.Since(began)
	}
	b.ReportMetric(float64(own.Nanoseconds())/float64(b.N), "own-ns/op")
}

// BenchmarkKernelIoctl measures one ioctl that does nothing much: what a system call costs in the guest. A picture takes three
// (poll, dequeue, enqueue).
func BenchmarkKernelIoctl(b *testing.B) {
	vm.Guest(b)
	s := open(b, config(b, single, webcam))
	for range b.N {
		if _, err := s.dev.SelectedInput(); err != nil {
			b.Fatal(err)
		}
	}
}
