package main

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/pipeline"
	"gantry/internal/testkit"
	"gantry/internal/testkit/usb"
	"gantry/internal/testkit/vm"
	"gantry/internal/uevent"
	"gantry/media"
	"gantry/media/h264"
	"gantry/uplink"
)

// TestInVMUSB runs the tests named TestUSB... in the guest.
func TestInVMUSB(t *testing.T) { vm.RunTests(t, vm.Options{TimeTravel: true}, "^TestUSB") }

const (
	dongle = "usb:1d6b:0102:A1"
	tiny   = "live-160x120-30"
)

// A camera is unplugged and plugged in a hundred times, into one port or another, with another of its make there before it, so that
// its number changes. The destination stays connected and sees the slate; the picture is back soon after the plug; the other camera is
// never touched.
func TestUSBPlugs(t *testing.T) {
	vm.Guest(t)
	picture := func(f usb.Format, n int) []byte { return make([]byte, 2*f.Width*f.Height) }
	a := &usb.Camera{Vendor: 0x1d6b, Product: 0x0102, Maker: "Gantry", Name: "Camera", Serial: "A1", Picture: picture,
		Formats: []usb.Format{{FourCC: "YUYV", Width: 160, Height: 120, Rates: []int{30}}}}
	b := *a
	b.Serial = "B2"

	dest := &listener{first: map[string]*media.Packet{}}
	shown := &slates{titles: map[string]int{}}
	runBox(t, dest, shown, func(*boxConfig) {})

	twin := b.PlugInto(t, 0)
	camera := a.PlugInto(t, 1)
	testkit.Eventually(t, 5*time.Second, "the first picture", func() bool { return dest.of(tiny) != nil })
	settle(t, dest)
	dest.mu.Lock()
	dest.gap, dest.lost, dest.back = 0, 0, 0
	dest.mu.Unlock()
	files := openFiles(t)
	var slowest, kernel time.Duration
	var err error
	nodes := map[string]int{}
	for i := range cycles {
		shown.forget()
		camera.Unplug()
		dest.forget()
		testkit.Eventually(t, 3*time.Second, "the slate", func() bool { return shown.of("No input") > 0 && dest.of("slate") != nil })
		switch i % 4 {
		case 1: // another number is free now
			twin.Unplug()
		case 2:
			twin = b.PlugInto(t, 2)
		}
		dest.forget()
		plug := clock.Now()
		camera = a.PlugInto(t, 1+2*(i%2))
		var node string
		testkit.Eventually(t, 5*time.Second, "the node", func() bool { node, err = v4l2.Find(dongle); return err == nil })
		there := clock.Now()
		nodes[node]++
		testkit.Eventually(t, 5*time.Second, "the picture", func() bool { return dest.of(tiny) != nil })
		back := dest.of(tiny)
		if !back.Key {
			t.Errorf("cycle %d: the picture comes back without a key frame", i)
		}
		slowest, kernel = max(slowest, back.PTS-plug), max(kernel, there-plug)
		if took := back.PTS - there; took > 200*time.Millisecond { // who only looks every half second is later
			t.Errorf("cycle %d: the picture comes %v after the node", i, took)
		}
		settle(t, dest)
		if n := twin.Streams(); n != 0 {
			t.Fatalf("cycle %d: the other camera streamed %d times", i, n)
		}
	}
	dest.mu.Lock()
	t.Logf("%d plugs under %d numbers: the node there after %v at the most, the picture after %v; longest gap %v", cycles, len(nodes),
		kernel.Round(time.Millisecond), slowest.Round(time.Millisecond), dest.gap.Round(time.Millisecond))
	if dest.gap > return1s || dest.back > 0 || dest.runs != 1 {
		t.Errorf("longest gap %v, %d pictures out of order, %d connections", dest.gap, dest.back, dest.runs)
	}
	dest.mu.Unlock()
	if len(nodes) < 2 {
		t.Errorf("its number never changed: %v", nodes)
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d files are open, %d before", n, files)
	}
}

// runBox runs gantryd's own wiring for the camera until the test ends, with a destination in memory.
func runBox(t *testing.T, dest uplink.Sender, shown *slates, change func(*boxConfig)) *pipeline.Session {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	c := defaults()
	c.Video.Source, c.Video.V4L2.Device, c.Video.V4L2.Width, c.Video.V4L2.Height = sourceV4L2, dongle, 0, 0
	change(&c)
	s := pipeline.Spec{
		Video:   video(c, log),
		Encoder: pipeline.Encoder{Key: 1, Floor: c.Encoder.MinBitrate, Params: c.Encoder.params(), Backends: []encoder.Backend{notingBackend()}},
		Uplinks: []pipeline.Uplink{{Name: "memory", Key: 1, Open: func(*slog.Logger) (uplink.Sender, error) { return dest, nil }}},
	}
	if s.Video.Coded != nil {
		s.Video.Coded.StandIn = func(media.Codec) pipeline.Encoder { return s.Encoder }
	}
	plugged, err := uevent.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s.Video.Wake = plugged.Came("video4linux")
	session := pipeline.New(s, shown.draw, new(health.Set), log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- session.Run(ctx) }()
	go func() { done <- plugged.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return session
}

// A dongle that spoils every fifth JPEG in some way: the others go out.
func TestUSBBrokenJPEGs(t *testing.T) {
	vm.Guest(t)
	if libav.Missing() != "" {
		t.Skip(libav.Missing())
	}
	good := new(bytes.Buffer)
	if err := jpeg.Encode(good, image.NewYCbCr(image.Rect(0, 0, 160, 120), image.YCbCrSubsampleRatio422), nil); err != nil {
		t.Fatal(err)
	}
	broken := [][]byte{{0}, good.Bytes()[:good.Len()/2], bytes.Repeat([]byte{0xff}, 5000), good.Bytes()[2:], {0xff, 0xd8, 0xff, 0xd9}}
	camera := &usb.Camera{Vendor: 0x1d6b, Product: 0x0102, Maker: "Gantry", Name: "Camera", Serial: "A1",
		Formats: []usb.Format{{FourCC: "MJPG", Width: 160, Height: 120, Rates: []int{30}}},
		Picture: func(_ usb.Format, n int) []byte {
			if n%5 == 4 {
				return broken[n/5%len(broken)]
			}
			return good.Bytes()
		}}
	dest, shown := &listener{first: map[string]*media.Packet{}}, &slates{titles: map[string]int{}}
	session := runBox(t, dest, shown, func(*boxConfig) {})
	camera.Plug(t)
	var st pipeline.VideoStatus
	testkit.Eventually(t, 20*time.Second, "pictures", func() bool { st = session.Status().Video; return st.Frames >= 100 })
	slates := st.Slates
	testkit.Eventually(t, 20*time.Second, "more pictures", func() bool { st = session.Status().Video; return st.Frames >= 200 })
	if share := float64(st.Lost) / float64(st.Frames); share < 0.2 || share > 0.3 || st.Slates != slates {
		t.Errorf("%d pictures, %d lost, want one in four; %d slates in between", st.Frames, st.Lost, st.Slates-slates)
	}
}

// A camera that hangs after some pictures, and sends again once it is told to begin anew: the slate stands in for as long as it takes to
// notice, two seconds.
func TestUSBHangs(t *testing.T) {
	vm.Guest(t)
	camera := &usb.Camera{Vendor: 0x1d6b, Product: 0x0102, Maker: "Gantry", Name: "Camera", Serial: "A1",
		Formats: []usb.Format{{FourCC: "YUYV", Width: 160, Height: 120, Rates: []int{30}}},
		Picture: func(f usb.Format, n int) []byte {
			if n == 40 {
				return nil
			}
			return make([]byte, 2*f.Width*f.Height)
		}}
	dest, shown := &listener{first: map[string]*media.Packet{}}, &slates{titles: map[string]int{}}
	session := runBox(t, dest, shown, func(*boxConfig) {})
	plugged := camera.Plug(t)
	const times = 3
	testkit.Eventually(t, 30*time.Second, "pictures again and again", func() bool {
		return plugged.Streams() > times && session.Status().Video.Frames > 40*times
	})
	dest.mu.Lock()
	defer dest.mu.Unlock()
	if dest.gap > return1s || dest.runs != 1 || shown.of("No signal") == 0 {
		t.Errorf("longest gap %v, %d connections, slates %v", dest.gap, dest.runs, shown.titles)
	}
}

// A packets is a destination in memory that keeps what it gets.
type packets struct {
	mu   sync.Mutex
	got  [][]byte
	keys int
}

func (d *packets) Run(ctx context.Context, p uplink.Program) error {
	p.Connected()
	for {
		pkt, err := p.Packets.Pull(ctx)
		if err != nil {
			return nil
		}
		d.mu.Lock()
		if d.got = append(d.got, pkt.Data); pkt.Key {
			d.keys++
		}
		d.mu.Unlock()
	}
}

// A camera that codes its pictures: they go out as it made them, also after it was plugged in again.
func TestUSBPassThrough(t *testing.T) {
	vm.Guest(t)
	if libav.Missing() != "" {
		t.Skip(libav.Missing())
	}
	stream, err := os.ReadFile("../../media/h264/testdata/baseline.h264")
	if err != nil {
		t.Fatal(err)
	}
	var units [][]byte
	var unit []byte
	for nalu := range h264.NALUs(stream) {
		unit = h264.Append(unit, nalu)
		if k := h264.TypeOf(nalu); k == h264.IDR || k == h264.NonIDR {
			units, unit = append(units, unit), nil
		}
	}
	camera := &usb.Camera{Vendor: 0x1d6b, Product: 0x0102, Maker: "Gantry", Name: "Camera", Serial: "A1",
		Formats: []usb.Format{{FourCC: "H264", Width: 320, Height: 180, Rates: []int{30}}},
		Picture: func(_ usb.Format, n int) []byte { return units[n%len(units)] }}
	dest, shown := &packets{}, &slates{titles: map[string]int{}}
	runBox(t, dest, shown, func(c *boxConfig) { c.Video.V4L2.Format = "H264" })
	for range 3 {
		plugged := camera.Plug(t)
		dest.mu.Lock()
		dest.got, dest.keys = nil, 0
		dest.mu.Unlock()
		testkit.Eventually(t, 20*time.Second, "the camera's own packets", func() bool {
			dest.mu.Lock()
			defer dest.mu.Unlock()
			begin := slices.IndexFunc(dest.got, func(data []byte) bool { return bytes.Equal(data, units[0]) })
			if begin < 0 || len(dest.got) < begin+2*len(units) {
				return false
			}
			for i, data := range dest.got[begin : begin+2*len(units)] {
				if !bytes.Equal(data, units[i%len(units)]) {
					t.Fatalf("packet %d is not the camera's", i)
				}
			}
			return true
		})
		plugged.Unplug()
		testkit.Eventually(t, 20*time.Second, "the slate", func() bool { return shown.of("No input")+shown.of("Input lost") > 0 })
		shown.forget()
	}
}

// What gantryd probe says of two cameras with one serial number, and of a third.
func TestUSBProbe(t *testing.T) {
	vm.Guest(t)
	camera := usb.Camera{Vendor: 0x046d, Product: 0x0825, Name: "C270 HD WEBCAM", Serial: "200901010001", Sound: true,
		Formats: []usb.Format{{FourCC: "YUYV", Width: 160, Height: 120, Rates: []int{10}}},
		Picture: func(f usb.Format, _ int) []byte { return make([]byte, 2*f.Width*f.Height) }}
	third := camera
	third.Serial, third.Version = "B2", 0x0210
	camera.PlugInto(t, 0)
	camera.PlugInto(t, 1)
	third.PlugInto(t, 2)
	testkit.Eventually(t, 10*time.Second, "three cameras", func() bool {
		cards, _ := filepath.Glob("/sys/bus/usb/devices/1-*/sound/card*/pcmC*c")
		return len(cards) == 3
	})
	m := machine{}
	m.addInputs(t.Context())
	var out bytes.Buffer
	if err := m.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"also as usb:1-1, whatever", "also as usb:1-2, whatever", "also as usb:046d:0825:B2, usb:1-3, whatever",
		"on USB at 1-3, 480 Mbit/s: 046d:0825 C270 HD WEBCAM B2", "note: Logitech C270: all have the serial number",
		"note: a USB 3 device at 480 Mbit/s", "measured 10.", "YUYV 160x120",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// The daemon itself: it starts without its camera, which then is plugged in, with a microphone, into a port that is too slow for it.
func TestUSBDaemon(t *testing.T) {
	vm.Guest(t)
	camera := usb.Camera{Vendor: 0x1d6b, Product: 0x0102, Name: "Camera", Serial: "A1", Sound: true, Version: 0x0210,
		Formats: []usb.Format{{FourCC: "YUYV", Width: 160, Height: 120, Rates: []int{30}}},
		Picture: func(f usb.Format, n int) []byte { return bytes.Repeat([]byte{byte(n), 128}, f.Width*f.Height) }}
	twin := camera
	twin.Serial = "B2"
	twin.PlugInto(t, 0)
	d := startBox(t, `
video:
  source: v4l2
  v4l2:
    device: usb:1d6b:0102:A1
audio:
  source: alsa
encoder:
  backend: openh264 # no trial of all
`)
	for port := range 2 {
		plugged := camera.PlugInto(t, 1+port)
		testkit.Eventually(t, 20*time.Second, "picture, sound and the word about the port", func() bool {
			st := d.status()
			warned := slices.ContainsFunc(st.Health, func(c health.Condition) bool {
				return c.Code == "source-warning" && strings.HasPrefix(c.Reason, "a USB 3 device at 480 Mbit/s")
			})
			return st.Video.Signal && warned && st.Audio.Format != "" && st.Audio.Reason == "" && len(st.Audio.Inputs) == 2
		})
		plugged.Unplug()
		testkit.Eventually(t, 20*time.Second, "neither", func() bool {
			st := d.status()
			return !st.Video.Signal && st.Audio.Reason != ""
		})
	}
}
