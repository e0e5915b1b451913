// Package vivid moves the cables of vivid, the kernel's virtual capture driver, for tests that run in a guest of
// internal/testkit/vm: what its inputs receive, what breaks, and whether the device is there at all.
//
// It knows nothing of Gantry's own way to capture.
package vivid

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	kernel "gantry/internal/v4l2"
)

// Controls of the driver.
const (
	SignalMode = 0x00f0f03e // of the HDMI input: NoSignal and so on
	Timings    = 0x00f0f03f // that the HDMI input receives in mode Selected
	Disconnect = 0x00f0f041 // the device is gone until everybody has closed it
	Fatal      = 0x00f0f046 // the stream breaks
)

// Values of SignalMode.
const (
	NoSignal   = 1
	NoLock     = 2
	OutOfRange = 3
	Selected   = 4
)

// Values of Timings.
const (
	T640x480p60   = 0 // 59.94
	T720x576p50   = 4
	T1280x720p24  = 5
	T1280x720p25  = 6
	T1280x720p60  = 9
	T1920x1080p30 = 12
	T1920x1080i50 = 13
)

// Node returns the node that a driver registered under name, such as "vivid-000-vid-cap"; empty when there is none.
func Node(name string) string {
	names, _ := filepath.Glob("/sys/class/video4linux/*/name")
	for _, n := range names {
		if b, _ := os.ReadFile(n); strings.TrimSpace(string(b)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(n))
		}
	}
	return ""
}

// Set sets a control of a node.
func Set(t testing.TB, node string, id uint32, value int64) {
	t.Helper()
	d, err := kernel.Open(node)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.SetControls(kernel.Setting{ID: id, Value: value}); err != nil {
		t.Fatal(err)
	}
}

// Plug lets the HDMI input of a node receive timings.
func Plug(t testing.TB, node string, timings int64) {
	t.Helper()
	Set(t, node, SignalMode, Selected)
	Set(t, node, Timings, timings)
}

// Unplug takes the whole device away, as from a socket; PlugIn brings it back, under other numbers while somebody still has the
// old nodes open.
func Unplug(t testing.TB) { bind(t, "unbind") }

// PlugIn ends Unplug.
func PlugIn(t testing.TB) { bind(t, "bind") }

func bind(t testing.TB, what string) {
	t.Helper()
	if err := os.WriteFile("/sys/bus/platform/drivers/vivid/"+what, []byte("vivid.0"), 0); err != nil {
		t.Fatal(err)
	}
}
