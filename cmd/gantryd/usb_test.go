package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/pipeline"
	"gantry/internal/testkit"
	"gantry/internal/testkit/usb"
	"gantry/internal/testkit/vm"
	"gantry/internal/uevent"
	"gantry/media"
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
	log := slog.New(slog.DiscardHandler)
	c := defaults()
	c.Video.Source, c.Video.V4L2.Device, c.Video.V4L2.Width, c.Video.V4L2.Height = sourceV4L2, dongle, 0, 0
	s := pipeline.Spec{
		Video:   video(c, log),
		Encoder: pipeline.Encoder{Key: 1, Floor: c.Encoder.MinBitrate, Params: c.Encoder.params(), Backends: []encoder.Backend{notingBackend()}},
		Uplinks: []pipeline.Uplink{{Name: "memory", Key: 1, Open: func(*slog.Logger) (uplink.Sender, error) { return dest, nil }}},
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
	defer func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()

	twin := b.PlugInto(t, 0)
	camera := a.PlugInto(t, 1)
	testkit.Eventually(t, 5*time.Second, "the first picture", func() bool { return dest.of(tiny) != nil })
	settle(t, dest)
	dest.mu.Lock()
	dest.gap, dest.lost, dest.back = 0, 0, 0
	dest.mu.Unlock()
	files := openFiles(t)
	var slowest, kernel time.Duration
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
		if took := back.PTS - there; took > return1s {
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
