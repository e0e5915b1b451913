package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/internal/health"
	"gantry/internal/pipeline"
	"gantry/internal/testkit"
	"gantry/internal/testkit/netns"
	"gantry/media"
	"gantry/media/h264"
)

// linkCeiling and linkFloor are what the encoder is held between; the link allows for headers and the sound on top.
const (
	linkCeiling = 4_000_000
	linkFloor   = 400_000
)

// The parameter sets of 320x180, as x264 writes them.
var (
	exactSPS = []byte{0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0xc0, 0xf1, 0x42, 0xa4, 0x80}
	exactPPS = []byte{0x68, 0xcb, 0x83, 0xcb, 0x20}
)

// An exact encoder makes access units of just the size that its bitrate asks for, of noise. It stands in for a real one, whose
// picture would have to need 4 Mbit/s and take a core to code.
type exact struct {
	format media.VideoFormat
	out    *encoder.Output
	keys   encoder.KeyTimer
	noise  []byte
	rate   float64
	number int // of the newest picture

	mu      sync.Mutex
	bitrate int
	once    sync.Once
}

func newExact(bitrate int, rate float64) *exact {
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rand.IntN(255) + 1) // no start codes
	}
	return &exact{bitrate: bitrate, noise: noise, rate: rate}
}

func exactBackend() encoder.Backend {
	return encoder.Backend{Name: "exact", Codec: media.H264, Inputs: []media.FourCC{media.YU12},
		Open: func(_ context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
			e := newExact(p.Bitrate, in.Rate.Float())
			e.format, e.out, e.keys = in, encoder.NewOutput(8), encoder.KeyTimer{GOP: p.GOP, Interval: in.Rate.Interval()}
			return e, nil
		}}
}

func (e *exact) Track() media.Track {
	return media.Track{Codec: media.H264, ClockRate: 90000, Width: e.format.Width, Height: e.format.Height, Profile: "42e01f"}
}

func (e *exact) Encode(ctx context.Context, f *media.Frame, key bool) error {
	if err := e.out.Wait(ctx); err != nil {
		return err
	}
	key = e.keys.Key(f.PTS, key)
	e.out.Put(&media.Packet{PTS: f.PTS, DTS: f.PTS, Start: true, End: true, Key: key, Data: e.unit(key)})
	return nil
}

// unit returns the next access unit, with a stamp.
func (e *exact) unit(key bool) []byte {
	e.mu.Lock()
	size := max(int(float64(e.bitrate)/8/e.rate), stampSize+2)
	e.mu.Unlock()
	e.number++
	var au []byte
	nalu := byte(0x41)
	if key {
		au = h264.Append(au, exactSPS)
		au = h264.Append(au, exactPPS)
		nalu = 0x65
	}
	body := appendStamp([]byte{nalu, 0x88}, time.Now(), e.number, size)
	return h264.Append(au, append(body, e.noise[:size-len(body)]...))
}

func (e *exact) Read(ctx context.Context) (*media.Packet, error) { return e.out.Read(ctx) }

func (e *exact) Apply(p encoder.Params) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bitrate = p.Bitrate
	return nil
}

func (e *exact) Close() error {
	e.once.Do(func() { e.out.End(nil) })
	return nil
}

// A reading is what the box says of itself.
type reading struct {
	At     time.Time
	State  pipeline.State
	Target int     // bit/s asked of the encoder
	Actual float64 // bit/s that leave
	Reason string
}

const linkFile = "GANTRY_TEST_LINK_CONFIG"

// TestLinkBox is the box of TestBitrateFollowsTheLink: the session of a configuration file, with an exact encoder, in a
// process of its own, as a namespace needs it.
func TestLinkBox(t *testing.T) {
	file := os.Getenv(linkFile)
	if file == "" {
		t.Skip("part of TestBitrateFollowsTheLink")
	}
	c, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s := spec(c, log)
	s.Encoder.Backends = []encoder.Backend{exactBackend()}
	session := pipeline.New(s, slate, new(health.Set), log)
	ctx, cancel := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- session.Run(ctx) }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case at := <-tick.C:
			st := session.Status()
			u := st.Uplinks[0]
			_ = json.NewEncoder(os.Stdout).Encode(reading{at, u.State, st.Encoder.Target, u.Bitrate, u.Reason})
		case <-ctx.Done():
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A linkBox is what TestLinkBox says, as it says it.
type linkBox struct {
	mu   sync.Mutex
	last reading
	low  int     // the smallest target since reset
	high float64 // the largest actual since reset
}

func startLinkBox(t *testing.T, here *netns.Namespace, uplink string) *linkBox {
	t.Helper()
	cmd := here.Command(os.Args[0], "-test.run=^TestLinkBox$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), linkFile+"="+writeConfig(t, fmt.Sprintf(
		"http: \"\"\n%sencoder: {bitrate: %d, min_bitrate: %d, gop: 1s}\nuplinks:\n- %s\n", small, linkCeiling, linkFloor, uplink)))
	b := &linkBox{}
	startTold(t, cmd, func(r reading) {
		b.mu.Lock()
		b.last, b.low, b.high = r, min(b.low, r.Target), max(b.high, r.Actual)
		b.mu.Unlock()
	})
	return b
}

// startTold starts one of this package's tests in a process of its own until the test ends, and has take hear each value that it
// prints.
func startTold[T any](t *testing.T, cmd *exec.Cmd, take func(T)) {
	t.Helper()
	r, w := io.Pipe()
	cmd.Stdout = w
	var heard sync.WaitGroup
	heard.Go(func() {
		defer r.Close()
		for lines := bufio.NewScanner(r); lines.Scan(); {
			var v T
			if json.Unmarshal(lines.Bytes(), &v) == nil { // not what package testing says
				take(v)
			}
		}
	})
	t.Cleanup(func() { w.Close(); heard.Wait() })
	testkit.StartCmd(t, cmd)
}

func (b *linkBox) now() reading {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// extremes returns the smallest target and the largest actual since reset.
func (b *linkBox) extremes() (low int, high float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.low, b.high
}

func (b *linkBox) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.low, b.high = b.last.Target, b.last.Actual
}

// after waits until the box says so, and returns how long that took.
func (b *linkBox) after(t *testing.T, limit time.Duration, what string, ok func(reading) bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for time.Since(begin) < limit {
		if r := b.now(); r.At.After(begin) && ok(r) {
			return time.Since(begin)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s: not within %v: %+v", what, limit, b.now())
	return time.Since(begin)
}

// The bitrate follows what the path carries, by WebRTC's reports, by SRT's statistics and by TCP's, between floor and ceiling. The aim
// is down within a second of congestion and up again within ten after it; the limits here are wider, for a busy machine.
// GANTRY_TEST_LINKS=long prints more figures: the steps three times, random loss, and an outage.
func TestBitrateFollowsTheLink(t *testing.T) {
	t.Parallel()
	clean := netns.Impairment{Delay: 20 * time.Millisecond, Rate: 20_000_000}
	long := os.Getenv("GANTRY_TEST_LINKS") == "long"
	full := func(r reading) bool {
		return r.State == pipeline.Connected && float64(r.Target) >= 0.95*linkCeiling && r.Actual > 0.85*linkCeiling
	}
	for _, kind := range []string{"whip", "srt", "rtmp"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "rtmp" && !long {
				t.Skip("in the long form")
			}
			if !long { // its figures are published
				t.Parallel()
			}
			here, there, link := netns.Pair(t, clean, clean)
			b := startLinkBox(t, here, receiver(t, kind, there))
			b.after(t, 20*time.Second, "connected, at full rate", full)
			if t.Failed() {
				return
			}
			b.step(t, link, clean, 1_500_000)
			if !long || t.Failed() {
				return
			}
			b.step(t, link, clean, 800_000)
			b.step(t, link, clean, 2_500_000)

			for _, loss := range []float64{0.01, 0.05, 0.1} {
				b.reset()
				lossy := clean
				lossy.Loss = loss
				link.Set(lossy, clean)
				time.Sleep(8 * time.Second)
				r := b.now()
				link.Set(clean, clean)
				up := b.after(t, 15*time.Second, "up after loss", full)
				low, _ := b.extremes()
				t.Logf("%.0f %% random loss for 8 s: lowest target %d; full rate again after %v", 100*loss, low, up.Round(10*time.Millisecond))
				if kind == "rtmp" { // TCP has but one answer to loss
					continue
				}
				if r.State != pipeline.Connected || loss < 0.06 && low < linkCeiling/2 {
					t.Errorf("at %.0f %% loss %+v, lowest target %d", 100*loss, r, low)
				}
			}

			b.reset()
			dead := netns.Impairment{Loss: 1}
			link.Set(dead, dead)
			down := b.after(t, 2*time.Second, "down in the outage", func(r reading) bool { return r.Target < linkCeiling/2 || r.State != pipeline.Connected })
			time.Sleep(3*time.Second - down)
			link.Set(clean, clean)
			up := b.after(t, 15*time.Second, "up after the outage", full)
			low, _ := b.extremes()
			t.Logf("outage of 3 s: down after %v, lowest target %d; all is as before after %v", down.Round(10*time.Millisecond), low, up.Round(10*time.Millisecond))
		})
	}
}

// step narrows the link for some seconds.
func (b *linkBox) step(t *testing.T, link *netns.Link, clean netns.Impairment, rate int) {
	t.Helper()
	slow := clean
	slow.Rate = rate
	b.reset()
	link.Set(slow, clean)
	down := b.after(t, 2*time.Second, "down", func(r reading) bool { return r.Target < slow.Rate })
	actual := b.after(t, 5*time.Second, "less is sent", func(r reading) bool { return r.Actual < 1.1*float64(slow.Rate) })
	time.Sleep(4 * time.Second) // it stays connected, and near what the link carries
	r := b.now()
	low, _ := b.extremes()
	if r.State != pipeline.Connected || low < linkFloor || r.Target > 2*slow.Rate {
		t.Errorf("on the slow link %+v, lowest target %d", r, low)
	}
	link.Set(clean, clean)
	up := b.after(t, 15*time.Second, "up", func(r reading) bool { return float64(r.Target) > 0.95*linkCeiling })
	if _, high := b.extremes(); high > 1.6*linkCeiling {
		t.Errorf("%.0f bit/s left at the most", high)
	}
	t.Logf("20 to %.1f Mbit/s: target below after %v, sent below after %v; lowest target %d; after some seconds %d; up again after %v", float64(rate)/1e6,
		down.Round(10*time.Millisecond), (down + actual).Round(10*time.Millisecond), low, r.Target, up.Round(10*time.Millisecond))
}

// receiver starts what receives on the far side, and returns the destination that leads there.
func receiver(t *testing.T, kind string, there *netns.Namespace) string {
	t.Helper()
	if kind == "srt" {
		cmd := there.Command("srt-live-transmit", "-q", "-a:yes", "srt://"+net.JoinHostPort(there.Addr.String(), "9000")+"?mode=listener", "file://con")
		if err := cmd.Start(); err != nil { // its output goes to /dev/null
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return fmt.Sprintf(`{name: far, srt: {addr: "%s:9000", stream: x}}`, there.Addr)
	}
	return relayUplink(kind, startRelay(t, there))
}

// startRelay starts gantry-relay on the far side and returns its address.
func startRelay(t *testing.T, there *netns.Namespace) (addr string) {
	t.Helper()
	prefix := there.Prefix()
	addr = there.Addr.String()
	cmd := exec.Command(prefix[0], append(prefix[1:], testkit.Bin(t, "gantry-relay"), "--http", addr+":8080", "--rtc", addr+":8189", "--srt", addr+":8890", "--rtmp", addr+":1935",
		"--publish-token", "link-test")...)
	testkit.StartCmd(t, cmd).WaitLine(10*time.Second, "serving")
	return addr
}

// relayUplink returns the destination that leads to the relay.
func relayUplink(kind, addr string) string {
	switch kind {
	case "rtmp":
		return fmt.Sprintf(`{name: far, rtmp: {url: "rtmp://%s/live", key: "x?token=link-test"}}`, addr)
	case "srt":
		return fmt.Sprintf(`{name: far, srt: {addr: "%s:8890", stream: x, token: link-test}}`, addr)
	}
	return strings.TrimSpace(fmt.Sprintf(`{name: far, whip: {url: "http://%s:8080/whip/x", token: link-test}}`, addr))
}
