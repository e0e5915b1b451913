package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/pipeline"
	"gantry/internal/testkit"
	"gantry/internal/testkit/vivid"
	"gantry/internal/testkit/vm"
	"gantry/media"
	"gantry/uplink"
)

// TestInVM runs the tests named TestKernel... beside vivid with one HDMI input. Time there does not depend on this machine.
func TestInVM(t *testing.T) {
	vm.RunTests(t, vm.Options{Vivid: "n_devs=1 node_types=0x1 num_inputs=1 input_types=0x3", TimeTravel: true}, "^TestKernel")
}

const (
	camera   = "vivid-000-vid-cap"
	cycles   = 100
	return1s = time.Second // a picture, from the moment of the signal
)

// A listener is a destination in memory: it notes when which picture came.
type listener struct {
	mu       sync.Mutex
	runs     int
	last     *media.Packet
	interval time.Duration
	first    map[string]*media.Packet // of each kind of picture since forget
	gap      time.Duration            // the longest between two pictures
	lost     int                      // pictures that should have been in between
	packets  int
	back     int // pictures that did not come after the one before
}

func (l *listener) Run(ctx context.Context, p uplink.Program) error {
	l.mu.Lock()
	l.runs++
	l.mu.Unlock()
	p.Connected()
	for {
		pkt, err := p.Packets.Pull(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		l.take(pkt)
	}
}

func (l *listener) take(p *media.Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind, rest, _ := strings.Cut(string(p.Data), " ")
	interval, _ := time.ParseDuration(rest)
	if l.last != nil {
		gap := p.PTS - l.last.PTS
		if gap <= 0 {
			l.back++
		}
		l.gap = max(l.gap, gap)
		l.lost += max(int((gap+l.interval/2)/l.interval)-1, 0)
	}
	l.last, l.interval = p, interval
	l.packets++
	if l.first[kind] == nil {
		l.first[kind] = p
	}
}

func (l *listener) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = map[string]*media.Packet{}
}

func (l *listener) of(kind string) *media.Packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first[kind]
}

// noting is an encoder whose packets say what they were made of: "live-640x480" or "slate", and the interval of the pictures.
type noting struct {
	in   media.VideoFormat
	keys encoder.KeyTimer
	out  *encoder.Output
}

func notingBackend() encoder.Backend {
	return encoder.Backend{Name: "noting", Codec: media.H264, Inputs: []media.FourCC{media.YUYV, media.YU12, media.NV12},
		Open: func(_ context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
			return &noting{in: in, keys: encoder.KeyTimer{GOP: time.Hour, Interval: in.Rate.Interval()}, out: encoder.NewOutput(8)}, nil
		}}
}

func (e *noting) Track() media.Track {
	return media.Track{Codec: media.H264, ClockRate: 90000, Width: e.in.Width, Height: e.in.Height}
}

func (e *noting) Encode(ctx context.Context, f *media.Frame, key bool) error {
	if f.Format != e.in {
		return fmt.Errorf("opened for %v, got %v", e.in, f.Format)
	}
	if err := e.out.Wait(ctx); err != nil {
		return err
	}
	kind := "slate"
	if f.Planes[0].FD >= 0 {
		kind = fmt.Sprintf("live-%dx%d-%v", f.Format.Width, f.Format.Height, f.Format.Rate)
	}
	e.out.Put(&media.Packet{PTS: f.PTS, DTS: f.PTS, Start: true, End: true, Key: e.keys.Key(f.PTS, key),
		Data: fmt.Appendf(nil, "%s %v", kind, f.Format.Rate.Interval())})
	return nil
}

func (e *noting) Read(ctx context.Context) (*media.Packet, error) { return e.out.Read(ctx) }
func (e *noting) Apply(encoder.Params) error                      { return nil }
func (e *noting) Close() error                                    { e.out.End(nil); return nil }

// slates counts the pictures of each slate that are sent.
type slates struct {
	mu     sync.Mutex
	titles map[string]int
}

type titled struct {
	pipeline.Still
	title string
	in    *slates
}

func (s *slates) draw(f media.VideoFormat, title, reason string) (pipeline.Still, error) {
	still, err := slate(f, title, reason)
	return titled{still, title, s}, err
}

func (s titled) Frame(pts time.Duration, seq uint32) *media.Frame {
	s.in.mu.Lock()
	s.in.titles[s.title]++
	s.in.mu.Unlock()
	return s.Still.Frame(pts, seq)
}

func (s *slates) of(title string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.titles[title]
}

func (s *slates) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.titles)
}

// A trouble is one way to lose the picture and to get it back.
type trouble struct {
	name   string
	begin  func(t *testing.T, node string, i int)
	title  string // of the slate that shows meanwhile; empty: none has to
	end    func(t *testing.T, node string, i int)
	expect func(i int) string // the live picture afterwards
}

func signalMode(mode int64) func(*testing.T, string, int) {
	return func(t *testing.T, node string, _ int) { vivid.Set(t, node, vivid.SignalMode, mode) }
}

func plug(timings ...int64) func(*testing.T, string, int) {
	return func(t *testing.T, node string, i int) { vivid.Plug(t, node, timings[i%len(timings)]) }
}

func alternately(kinds ...string) func(int) string {
	return func(i int) string { return kinds[i%len(kinds)] }
}

func nothing(*testing.T, string, int) {}

const (
	vga   = "live-640x480-60000/1001"
	pal   = "live-720x576-50"
	hd24  = "live-1280x720-24"
	hd25  = "live-1280x720-25"
	found = "name:" + camera
)

var troubles = []trouble{
	{"no signal", signalMode(vivid.NoSignal), "No signal", signalMode(vivid.Selected), alternately(vga)},
	{"no lock", signalMode(vivid.NoLock), "Unstable signal", signalMode(vivid.Selected), alternately(vga)},
	{"out of range", signalMode(vivid.OutOfRange), "Unsupported signal", signalMode(vivid.Selected), alternately(vga)},
	{"EDID cleared", func(t *testing.T, node string, _ int) {
		if err := v4l2.WriteEDID(node, 0, nil); err != nil {
			t.Fatal(err)
		}
	}, "No signal", func(t *testing.T, node string, _ int) {
		data, _ := v4l2.LoadEDID("1080p60")
		if err := v4l2.WriteEDID(node, 0, data); err != nil {
			t.Fatal(err)
		}
	}, alternately(vga)},
	{"stream broken", func(t *testing.T, node string, _ int) { vivid.Set(t, node, vivid.Fatal, 1) }, "Input lost", nothing, alternately(vga)},
	{"device disconnected", func(t *testing.T, node string, _ int) { vivid.Set(t, node, vivid.Disconnect, 1) }, "Input lost", nothing, alternately(vga)},
	{"device unplugged, back under another number", func(t *testing.T, _ string, _ int) { vivid.Unplug(t) }, "No input",
		func(t *testing.T, _ string, _ int) {
			vivid.PlugIn(t)
			vivid.Plug(t, vivid.Node(camera), vivid.T640x480p60)
		}, alternately(vga)},
	{"mode changed", nothing, "", plug(vivid.T720x576p50, vivid.T640x480p60), alternately(pal, vga)},
	{"frame rate changed", nothing, "", plug(vivid.T1280x720p24, vivid.T1280x720p25), alternately(hd24, hd25)},
}

// The life of a signal: at boot there is none; then each kind of trouble comes and goes a hundred times. The destination stays
// connected, sees the slate that says why, and a second after the signal a key frame of it. Nothing is left over.
func TestKernelSignalLife(t *testing.T) {
	vm.Guest(t)
	node := vivid.Node(camera)
	vivid.Set(t, node, vivid.SignalMode, vivid.NoSignal)
	dest := &listener{first: map[string]*media.Packet{}}
	shown := &slates{titles: map[string]int{}}
	log := slog.New(slog.DiscardHandler)
	c := defaults()
	c.Video.Source, c.Video.V4L2.Device, c.Video.V4L2.Width, c.Video.V4L2.Height = sourceV4L2, found, 0, 0
	c.Video.V4L2.Buffers = 3 // allocating them is most of what a restart costs here
	s := pipeline.Spec{
		Video:   video(c, log),
		Encoder: pipeline.Encoder{Key: 1, Floor: c.Encoder.MinBitrate, Params: c.Encoder.params(), Backends: []encoder.Backend{notingBackend()}},
		Uplinks: []pipeline.Uplink{{Name: "memory", Key: 1, Open: func(*slog.Logger) (uplink.Sender, error) { return dest, nil }}},
	}
	session := pipeline.New(s, shown.draw, new(health.Set), log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- session.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	// Boot without a signal.
	testkit.Eventually(t, 2*time.Second, "the slate at boot", func() bool { return dest.of("slate") != nil })
	if st := session.Status(); st.Encoder.Track.Width != 1280 || st.Video.Reason == "" || shown.of("No signal") == 0 {
		t.Errorf("at boot: %+v, slates %v", st, shown.titles)
	}
	vivid.Plug(t, node, vivid.T640x480p60)
	testkit.Eventually(t, return1s, "the picture after boot", func() bool { return dest.of(vga) != nil })

	files := openFiles(t)
	for _, k := range troubles {
		var slowest time.Duration
		prepare(t, dest, k)
		dest.mu.Lock()
		dest.gap, dest.lost, dest.packets, dest.back = 0, 0, 0, 0
		dest.mu.Unlock()
		for i := range cycles {
			node := vivid.Node(camera)
			shown.forget()
			dest.forget()
			k.begin(t, node, i)
			if k.title != "" {
				testkit.Eventually(t, 3*time.Second, k.name+": slate "+k.title, func() bool {
					return shown.of(k.title) > 0 && dest.of("slate") != nil
				})
			}
			dest.forget()
			restored := clock.Now()
			k.end(t, node, i)
			want := k.expect(i)
			testkit.Eventually(t, 3*time.Second, k.name+": "+want, func() bool { p := dest.of(want); return p != nil && p.PTS > restored })
			back := dest.of(want)
			if !back.Key {
				t.Errorf("%s, cycle %d: the picture comes back without a key frame", k.name, i)
			}
			took := back.PTS - restored
			slowest = max(slowest, took)
			if took > return1s {
				t.Errorf("%s, cycle %d: the picture comes back after %v", k.name, i, took)
			}
			settle(t, dest)
		}
		dest.mu.Lock()
		t.Logf("%-45s %d cycles: longest gap %v, %.1f pictures lost a cycle, back within %v of the signal, %d pictures",
			k.name+":", cycles, dest.gap.Round(time.Millisecond), float64(dest.lost)/cycles, slowest.Round(time.Millisecond), dest.packets)
		if dest.gap > return1s || dest.back > 0 || dest.runs != 1 {
			t.Errorf("%s: longest gap %v, %d pictures out of order, %d connections", k.name, dest.gap, dest.back, dest.runs)
		}
		dest.mu.Unlock()
	}
	if st := session.Status().Uplinks[0]; st.Losses != 0 || st.Dropped != 0 || st.State != pipeline.Connected {
		t.Errorf("destination: %+v", st)
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d files are open, %d before", n, files)
	}
}

// prepare brings the picture that the last cycle of a trouble would leave, so that each cycle changes something.
func prepare(t *testing.T, dest *listener, k trouble) {
	t.Helper()
	dest.forget()
	want := k.expect(cycles - 1)
	settle(t, dest)
	if dest.of(want) == nil {
		k.end(t, vivid.Node(camera), cycles-1)
		testkit.Eventually(t, 3*time.Second, k.name+": "+want, func() bool { return dest.of(want) != nil })
	}
}

// settle lets some live pictures pass.
func settle(t *testing.T, dest *listener) {
	t.Helper()
	dest.mu.Lock()
	from := dest.packets
	dest.mu.Unlock()
	testkit.Eventually(t, 2*time.Second, "pictures", func() bool {
		dest.mu.Lock()
		defer dest.mu.Unlock()
		return dest.packets > from+5
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
