// Package uvc knows what USB dongles and webcams do not say of themselves: where they are plugged in and how fast that port is, and
// by their USB id what is known to be wrong with them. It lists and sets their image controls, and measures how many pictures a
// second they give.
//
// Their pictures are captured by device/v4l2, which keeps the driver's timestamps, and their sound by device/alsa. Image controls
// need cgo: a build without it, or with the tag nolibav, says so by Missing.
package uvc

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// A Dongle is the USB device behind a video node.
type Dongle struct {
	Place  string   `json:"place"` // on the USB bus, "1-1.4": the same while it stays in that port
	ID     string   `json:"id"`    // vendor and product, "534d:2109"
	Serial string   `json:"serial,omitempty"`
	Name   string   `json:"name,omitempty"`
	Speed  int      `json:"speed"`           // of the link, Mbit/s; 0: not known
	Usable string   `json:"usable"`          // the USB version that it says to be made for, "3.00"
	Notes  []string `json:"notes,omitempty"` // what to know of it, in words
}

const superSpeed = 5000 // Mbit/s

var interfaceName = regexp.MustCompile(`^(\d+-\d+(?:\.\d+)*):\d+\.\d+$`)

// Find returns the USB device of a video node such as "video0", by /sys under root. It returns false for one that is on no USB.
func Find(root fs.FS, node string) (Dongle, bool) {
	const class = "sys/class/video4linux"
	if node != path.Base(node) || !fs.ValidPath(node) {
		return Dongle{}, false
	}
	target, err := fs.ReadLink(root, class+"/"+node) // …/1-1.4/1-1.4:1.0/video4linux/video0
	if err != nil {
		return Dongle{}, false
	}
	face := path.Dir(path.Dir(path.Join(class, target)))
	m := interfaceName.FindStringSubmatch(path.Base(face))
	if m == nil {
		return Dongle{}, false
	}
	usb := path.Dir(face)
	read := func(name string) string {
		text, err := fs.ReadFile(root, usb+"/"+name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	d := Dongle{Place: m[1], ID: read("idVendor") + ":" + read("idProduct"), Serial: read("serial"),
		Name: strings.TrimSpace(read("manufacturer") + " " + read("product")), Usable: read("version")}
	speed, _ := strconv.ParseFloat(read("speed"), 64) // "480", "5000", "1.5"
	d.Speed = int(speed)
	d.Notes = notes(d)
	return d, true
}

// notes says what to know of a dongle.
func notes(d Dongle) (list []string) {
	switch {
	case d.Speed == 0:
	case d.Speed < 480:
		list = append(list, fmt.Sprintf("its link is USB 1 at %d Mbit/s, too slow for video: another port, cable or hub", d.Speed))
	case d.Speed < superSpeed && needsSuperSpeed(d):
		list = append(list, fmt.Sprintf("a USB 3 device at %d Mbit/s: the port, the cable or a hub is USB 2, and large pictures come slowly or as JPEG", d.Speed))
	}
	for _, q := range quirks {
		if q.id == d.ID {
			list = append(list, q.note)
		}
	}
	return list
}

// needsSuperSpeed reports whether a device is made for USB 3. On a USB 2 link such a device says version 2.10.
func needsSuperSpeed(d Dongle) bool {
	version, err := strconv.ParseFloat(cmp.Or(d.Usable, "0"), 64)
	return err == nil && version >= 2.10
}

// quirks are what is known to be wrong, by USB id, and where that was found.
var quirks = []struct{ id, note string }{
	{"534d:2109", "MacroSilicon MS2109: its sound is stereo at 48 kHz though it says mono at 96 kHz (corrected); it says USB 3 and is USB 2 (BertoldVdb/ms-tools issue 19)"},
}
