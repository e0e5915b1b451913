package main

import (
	"errors"
	"testing"

	"gantry/device"
	"gantry/device/alsa"
	"gantry/internal/testkit/sysfs"
)

// The sound of a USB device is that of the same device, or of the same case; of other inputs, any.
func TestCardOf(t *testing.T) {
	desk := sysfs.Load(t, "../../device/uvc/testdata/desk.txt")
	for node, want := range map[string]string{
		"/dev/video0": "hw:MS2109,0",
		"/dev/video1": "hw:MS2109,0", // another node of the same dongle
		"/dev/video3": "hw:MS2109_1,0",
		"/dev/video5": "hw:Mic,0", // camera and microphone are built into one hub
	} {
		if got, err := cardOf(desk, node); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", node, got, err, want)
		}
	}
	for _, node := range []string{"/dev/video2", "/dev/video4", "/dev/video8"} { // the computer's own microphone does not stand in
		if got, err := cardOf(desk, node); !errors.Is(err, device.ErrNotFound) {
			t.Errorf("%s: %q, %v", node, got, err)
		}
	}
	if got, err := cardOf(desk, "/dev/video9"); err != nil || got != alsa.Auto {
		t.Errorf("not on USB: %q, %v", got, err)
	}
}
