package uvc

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// tree returns /sys with one device behind video0.
func tree(files map[string]string) fstest.MapFS {
	const usb = "sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.4"
	m := fstest.MapFS{
		"sys/class/video4linux/video0": {Mode: 0o777 | fs.ModeSymlink,
			Data: []byte("../../devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.4/1-1.4:1.0/video4linux/video0")},
		"sys/class/video4linux/video1": {Mode: 0o777 | fs.ModeSymlink, Data: []byte("../../devices/platform/vivid.0/video4linux/video1")},
	}
	for name, text := range files {
		m[usb+"/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return m
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Dongle
		notes []string // the beginning of each
	}{
		{"on a USB 3 port", map[string]string{"idVendor": "07ca", "idProduct": "0570", "serial": "5202", "product": "Grabber", "manufacturer": "Maker",
			"speed": "5000", "version": " 3.00"}, Dongle{Place: "1-1.4", ID: "07ca:0570", Serial: "5202", Name: "Maker Grabber", Speed: 5000, Usable: "3.00"}, nil},
		{"on a USB 2 port", map[string]string{"idVendor": "07ca", "idProduct": "0570", "speed": "480", "version": " 2.10"},
			Dongle{Place: "1-1.4", ID: "07ca:0570", Speed: 480, Usable: "2.10"}, []string{"a USB 3 device at 480"}},
		{"USB 2 by nature", map[string]string{"idVendor": "046d", "idProduct": "082d", "speed": "480", "version": " 2.00"},
			Dongle{Place: "1-1.4", ID: "046d:082d", Speed: 480, Usable: "2.00"}, nil},
		{"behind an old hub", map[string]string{"idVendor": "534d", "idProduct": "2109", "speed": "12", "version": " 2.00"},
			Dongle{Place: "1-1.4", ID: "534d:2109", Speed: 12, Usable: "2.00"}, []string{"its link is USB 1 at 12", "MacroSilicon MS2109"}},
		{"that says nothing", nil, Dongle{Place: "1-1.4", ID: ":"}, nil},
	} {
		got, ok := Find(tree(c.files), "video0")
		notes := got.Notes
		got.Notes = nil
		if !ok || got.Place != c.want.Place || got.ID != c.want.ID || got.Serial != c.want.Serial || got.Name != c.want.Name || got.Speed != c.want.Speed || got.Usable != c.want.Usable {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
		if !slices.EqualFunc(notes, c.notes, strings.HasPrefix) {
			t.Errorf("%s: %q", c.name, notes)
		}
	}
	for _, node := range []string{"video1", "video2", "", "..", "../video0"} {
		if d, ok := Find(tree(nil), node); ok {
			t.Errorf("%q: %+v", node, d)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("video0", "480", "2.10", "534d")
	f.Fuzz(func(t *testing.T, node, speed, version, id string) {
		Find(tree(map[string]string{"speed": speed, "version": version, "idVendor": id}), node)
	})
}
