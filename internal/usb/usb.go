// Package usb reads what the kernel says in /sys about USB devices: which one is behind a video node or a sound card, where it is
// plugged in, who it says it is, and how fast its link is. It also knows how a configuration names one.
//
// It opens no device and knows nothing of what devices are for.
package usb

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// A Device is one USB device that is plugged in. Its texts are the device's own words: anything can be in them.
type Device struct {
	Place   string `json:"place"` // on the bus, "1-1.4": bus, then the port of each hub. The same while it stays in that port
	ID      string `json:"id"`    // vendor and product, "534d:2109"
	Serial  string `json:"serial,omitempty"`
	Name    string `json:"name,omitempty"`
	Speed   int    `json:"speed"`           // of the link, Mbit/s; 0: not known
	Version string `json:"version"`         // of USB, that it says to be made for: "3.00"
	Fixed   bool   `json:"fixed,omitempty"` // built into the same case as the hub that it hangs on
}

var (
	placeName     = regexp.MustCompile(`^\d+-\d+(\.\d+)*$`)
	interfaceName = regexp.MustCompile(`^(\d+-\d+(?:\.\d+)*):\d+\.\d+$`)
)

// Of returns the USB device behind a device of a class, as ("video4linux", "video0") or ("sound", "card1"), by /sys under root.
// It returns false for one that is on no USB.
func Of(root fs.FS, class, name string) (Device, bool) {
	class = "sys/class/" + class
	if name != path.Base(name) || !fs.ValidPath(class+"/"+name) {
		return Device{}, false
	}
	target, err := fs.ReadLink(root, class+"/"+name) // …/1-1.4/1-1.4:1.0/video4linux/video0
	if err != nil {
		return Device{}, false
	}
	face := path.Dir(path.Dir(path.Join(class, target)))
	m := interfaceName.FindStringSubmatch(path.Base(face))
	if m == nil {
		return Device{}, false
	}
	dir := path.Dir(face)
	read := func(name string) string {
		text, err := fs.ReadFile(root, dir+"/"+name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	d := Device{Place: m[1], ID: read("idVendor") + ":" + read("idProduct"), Serial: read("serial"),
		Name: strings.TrimSpace(read("manufacturer") + " " + read("product")), Version: read("version"), Fixed: read("removable") == "fixed"}
	speed, _ := strconv.ParseFloat(read("speed"), 64) // "480", "5000", "1.5"
	d.Speed = int(speed)
	return d, true
}

// In Mbit/s: USB 2 and USB 3.
const (
	highSpeed  = 480
	superSpeed = 5000
)

// SlowLink says that the device's link is too slow for pictures, or for what the device can do, and what to do about it; empty where
// it is not.
func (d Device) SlowLink() string {
	switch {
	case d.Speed == 0: // not known
	case d.Speed < highSpeed:
		return fmt.Sprintf("its link is USB 1 at %d Mbit/s, too slow for video: another port, cable or hub", d.Speed)
	case d.Speed < superSpeed && d.needsSuperSpeed():
		return fmt.Sprintf("a USB 3 device at %d Mbit/s: the port, the cable or a hub is USB 2, and large pictures come slowly or as JPEG", d.Speed)
	}
	return ""
}

// needsSuperSpeed reports whether a device is made for USB 3. On a USB 2 link such a device says version 2.10.
func (d Device) needsSuperSpeed() bool {
	version, err := strconv.ParseFloat(d.Version, 64)
	return err == nil && version >= 2.10
}

// Beside tells whether d and e are one apparatus: the same device, or both built into the case of the same hub.
func (d Device) Beside(e Device) bool {
	if d.Place == e.Place {
		return true
	}
	i, j := strings.LastIndexByte(d.Place, '.'), strings.LastIndexByte(e.Place, '.')
	return d.Fixed && e.Fixed && i > 0 && j > 0 && d.Place[:i] == e.Place[:j]
}

// Prefix begins a Name in a configuration.
const Prefix = "usb:"

// A Name is how a configuration means one device: by the port that it is in, or by who it is, whatever the port.
type Name struct{ place, id, serial string }

var idAndSerial = regexp.MustCompile(`^([0-9a-f]{4}:[0-9a-f]{4}):(\S.{0,125})$`)

// ParseName reads "usb:1-1.4" (a place) and "usb:0fd9:0066:0005AB12" (ID and serial number).
func ParseName(s string) (Name, error) {
	rest, ok := strings.CutPrefix(s, Prefix)
	if ok && placeName.MatchString(rest) {
		return Name{place: rest}, nil
	}
	if m := idAndSerial.FindStringSubmatch(rest); ok && m != nil && strings.TrimSpace(m[2]) == m[2] {
		return Name{id: m[1], serial: m[2]}, nil
	}
	return Name{}, fmt.Errorf("%q is not usb:PLACE such as usb:1-1.4, nor usb:VENDOR:PRODUCT:SERIAL such as usb:0fd9:0066:0005AB12", s)
}

// Means tells whether n is a name of d.
func (n Name) Means(d Device) bool {
	if n.place != "" {
		return n.place == d.Place
	}
	return n.id == d.ID && n.serial == d.Serial
}

// NameOf returns the name by which d is found in any port, and by its place where it has no serial number.
func NameOf(d Device) string {
	if s := Prefix + d.ID + ":" + d.Serial; d.Serial != "" {
		if _, err := ParseName(s); err == nil {
			return s
		}
	}
	return Prefix + d.Place
}
