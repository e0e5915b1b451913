package alsa

import (
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"gantry/device"
	"gantry/internal/testkit"
	camera "gantry/internal/testkit/usb"
	"gantry/internal/testkit/vm"
	"gantry/internal/usb"
	"gantry/media"
)

// The kernel's snd-usb-audio with the microphone of a camera made of software: found by the camera's serial number, heard, lost and
// found again.
func TestKernelUSBSound(t *testing.T) {
	vm.Guest(t)
	c := &camera.Camera{Vendor: 0x1d6b, Product: 0x0102, Maker: "Gantry", Name: "Camera", Serial: "A1", Sound: true,
		Formats: []camera.Format{{FourCC: "YUYV", Width: 160, Height: 120, Rates: []int{30}}}}
	other := *c
	other.Serial = "B2"
	other.Plug(t)
	ms2109 := *c // of whose descriptors the kernel believes nothing: it has its own for this id (sound/usb/quirks-table.h)
	ms2109.Vendor, ms2109.Product = 0x534d, 0x2109
	for name, c := range map[string]*camera.Camera{"usb:1d6b:0102:A1": c, "usb:534d:2109:A1": &ms2109} {
		plugged := c.Plug(t)
		cfg := Default()
		cfg.Card = name
		var s *Source
		testkit.Eventually(t, 10*time.Second, "the microphone is there", func() bool {
			var err error
			s, err = Open(cfg, quiet)
			return err == nil
		})
		name, err := Beside(os.DirFS("/"), usb.Device{Place: plugged.Place})
		if err != nil || name != s.card.Name {
			t.Errorf("beside the camera at %s is %q, %v; it is %s", plugged.Place, name, err, s.card.Name)
		}
		if got := start(t, s); got != (media.AudioFormat{Rate: 48000, Channels: 2}) {
			t.Error(got)
		}
		samples, _, _ := collect(t, s, time.Second)
		// In the first second the card's clock is not known yet.
		if hz, loud := pitch(samples[9600:], 2, 0); math.Abs(hz-camera.Tone) > 2 || math.Abs(loud-0.5) > 0.2 {
			t.Errorf("%.2f Hz at %.3f, want %d at 0.5", hz, loud, camera.Tone)
		}
		plugged.Unplug()
		for err = error(nil); err == nil; {
			_, err = s.Read(t.Context())
		}
		if !errors.Is(err, device.ErrGone) {
			t.Error("unplugged:", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Beside(os.DirFS("/"), usb.Device{Place: "1-9"}); !errors.Is(err, device.ErrNotFound) {
		t.Error("sound of nothing:", err)
	}
}
