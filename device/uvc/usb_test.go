package uvc

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"gantry/internal/testkit/sysfs"
	"gantry/internal/usb"
)

func TestFind(t *testing.T) {
	desk := sysfs.Load(t, "testdata/desk.txt")
	for node, want := range map[string]struct {
		usb.Device
		notes []string // the beginning of each
	}{
		"video0": {usb.Device{Place: "1-1.4", ID: "534d:2109", Serial: "20210623", Name: "MACROSILICON USB Video", Speed: 480, Version: "2.00"},
			[]string{"MacroSilicon MS2109: its sound"}},
		"video3": {usb.Device{Place: "1-1.3", ID: "534d:2109", Serial: "20210623", Speed: 12, Version: "2.00"},
			[]string{"its link is USB 1 at 12", "MacroSilicon MS2109: its sound"}},
		"video2": {usb.Device{Place: "1-2", ID: "0fd9:0066", Serial: "0005AC85A6000", Name: "Elgato Cam Link 4K", Speed: 480, Version: "2.10"},
			[]string{"a USB 3 device at 480", "Elgato Cam Link 4K: with kernels", "Elgato Cam Link 4K: it offers one size", "Elgato Cam Link 4K: it may stop"}},
		"video4": {usb.Device{Place: "2-4", ID: "0fd9:0066", Serial: "0005AC85A7001", Name: "Cam Link 4K", Speed: 5000, Version: "3.00"},
			[]string{"Elgato Cam Link 4K: with kernels", "Elgato Cam Link 4K: it offers one size", "Elgato Cam Link 4K: it may stop"}},
		"video5": {usb.Device{Place: "1-5.1", ID: "1d6b:0102", Speed: 480, Version: "2.00", Fixed: true}, nil},
		"video6": {usb.Device{Place: "1-6", ID: ":"}, nil}, // says nothing
	} {
		got, ok := Find(desk, node)
		if !ok || got.Device != want.Device {
			t.Errorf("%s: %+v, %v", node, got, ok)
		}
		if !slices.EqualFunc(got.Notes, want.notes, strings.HasPrefix) {
			t.Errorf("%s: %q", node, got.Notes)
		}
	}
	for _, node := range []string{"video9", "video99", "", "..", "../video0"} {
		if d, ok := Find(desk, node); ok {
			t.Errorf("%q: %+v", node, d)
		}
	}
}

// Each quirk is of an id as /sys writes it, and says what, and by whom it was found.
func TestQuirks(t *testing.T) {
	id := regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{4}$`)
	source := regexp.MustCompile(`^(https://\S+/\d+|Linux [a-z/_.-]+)(, Linux [a-z/_.-]+)?$`)
	for _, q := range Quirks {
		if !id.MatchString(q.ID) || q.Name == "" || q.Wrong == "" || q.Answer == "" || !source.MatchString(q.Source) {
			t.Errorf("%+v", q)
		}
	}
	t.Logf("%d quirks", len(Quirks))
}
