package usb

import (
	"io/fs"
	"testing"
	"testing/fstest"
)

// tree returns /sys with one device behind video0 and card1.
func tree(files map[string]string) fstest.MapFS {
	const usb = "devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.4"
	link := func(to string) *fstest.MapFile {
		return &fstest.MapFile{Mode: 0o777 | fs.ModeSymlink, Data: []byte("../../" + to)}
	}
	m := fstest.MapFS{
		"sys/class/video4linux/video0": link(usb + "/1-1.4:1.0/video4linux/video0"),
		"sys/class/video4linux/video1": link("devices/platform/vivid.0/video4linux/video1"),
		"sys/class/sound/card1":        link(usb + "/1-1.4:1.2/sound/card1"),
	}
	for name, text := range files {
		m["sys/"+usb+"/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return m
}

func TestOf(t *testing.T) {
	root := tree(map[string]string{"idVendor": "07ca", "idProduct": "0570", "serial": "5202", "product": "Grabber", "manufacturer": "Maker",
		"speed": "5000", "version": " 3.00", "removable": "fixed"})
	want := Device{Place: "1-1.4", ID: "07ca:0570", Serial: "5202", Name: "Maker Grabber", Speed: 5000, Version: "3.00", Fixed: true}
	for class, name := range map[string]string{"video4linux": "video0", "sound": "card1"} {
		if got, ok := Of(root, class, name); !ok || got != want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	if got, ok := Of(tree(nil), "video4linux", "video0"); !ok || got != (Device{Place: "1-1.4", ID: ":"}) {
		t.Errorf("that says nothing: %+v, %v", got, ok)
	}
	for _, name := range []string{"video1", "video2", "", "..", "../video0", "video0/x"} {
		if d, ok := Of(root, "video4linux", name); ok {
			t.Errorf("%q: %+v", name, d)
		}
	}
}

func TestName(t *testing.T) {
	d := Device{Place: "1-1.4", ID: "0fd9:0066", Serial: "0005 AB:12"}
	for s, want := range map[string]bool{
		"usb:1-1.4": true, "usb:1-1": false, "usb:2-1.4": false,
		"usb:0fd9:0066:0005 AB:12": true, "usb:0fd9:0066:0005": false, "usb:0fd9:0067:0005 AB:12": false,
	} {
		n, err := ParseName(s)
		if err != nil || n.Means(d) != want {
			t.Errorf("%s: %v, %v", s, n.Means(d), err)
		}
	}
	for _, s := range []string{"", "usb:", "1-1.4", "usb:1-", "usb:x", "usb:0fd9:0066", "usb:0fd9:0066:", "usb:0fd9:0066: 1", "usb:0FD9:0066:1", "usb:1-1.4\n"} {
		if n, err := ParseName(s); err == nil {
			t.Errorf("%q is %+v", s, n)
		}
	}
	for want, d := range map[string]Device{
		"usb:0fd9:0066:0005 AB:12": d,
		"usb:1-2":                  {Place: "1-2", ID: "534d:2109"},
		"usb:1-3":                  {Place: "1-3", ID: ":", Serial: "1"}, // says nothing of itself
	} {
		got := NameOf(d)
		if n, err := ParseName(got); got != want || err != nil || !n.Means(d) {
			t.Errorf("%+v is called %q, want %q: %v", d, got, want, err)
		}
	}
}

func TestBeside(t *testing.T) {
	for _, c := range []struct {
		d, e Device
		want bool
	}{
		{Device{Place: "1-1.4"}, Device{Place: "1-1.4"}, true},
		{Device{Place: "1-1.1", Fixed: true}, Device{Place: "1-1.2", Fixed: true}, true},
		{Device{Place: "1-1.1", Fixed: true}, Device{Place: "1-1.2"}, false},
		{Device{Place: "1-1.1", Fixed: true}, Device{Place: "1-2.2", Fixed: true}, false},
		{Device{Place: "1-1", Fixed: true}, Device{Place: "1-2", Fixed: true}, false}, // ports of the computer itself
	} {
		if got := c.d.Beside(c.e); got != c.want {
			t.Errorf("%+v beside %+v: %v", c.d, c.e, got)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("video0", "480", "2.10", "534d", "1")
	f.Fuzz(func(t *testing.T, node, speed, version, id, serial string) {
		d, ok := Of(tree(map[string]string{"speed": speed, "version": version, "idVendor": id, "idProduct": "2109", "serial": serial}), "video4linux", node)
		if !ok {
			return
		}
		if n, err := ParseName(NameOf(d)); err != nil || !n.Means(d) {
			t.Errorf("%+v: %v", d, err)
		}
	})
}
