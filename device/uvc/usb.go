// Package uvc knows what USB dongles and webcams do not say of themselves: what a slow port means for them, and by their USB id what
// is known to be wrong with them. It lists and sets their image controls, and measures how many pictures a second they give.
//
// Their pictures are captured by device/v4l2, which keeps the driver's timestamps, and their sound by device/alsa; who they are and
// where they are plugged in is read by internal/usb. Image controls need cgo: a build without it, or with the tag nolibav, says so by
// Missing.
package uvc

import (
	"cmp"
	"fmt"
	"io/fs"
	"strconv"

	"gantry/internal/usb"
)

// A Dongle is the USB device behind a video node.
type Dongle struct {
	usb.Device
	Notes []string `json:"notes,omitempty"` // what to know of it, in words
}

const (
	highSpeed  = 480 // Mbit/s, USB 2
	superSpeed = 5000
)

// Find returns the USB device of a video node such as "video0", by /sys under root. It returns false for one that is on no USB.
func Find(root fs.FS, node string) (Dongle, bool) {
	d, ok := usb.Of(root, "video4linux", node)
	if !ok {
		return Dongle{}, false
	}
	var notes []string
	if slow := SlowLink(d); slow != "" {
		notes = append(notes, slow)
	}
	for _, q := range Quirks {
		if q.ID == d.ID {
			notes = append(notes, q.String())
		}
	}
	return Dongle{Device: d, Notes: notes}, true
}

// SlowLink says what is wrong with the speed of a device's link, and what to do; empty where nothing is.
func SlowLink(d usb.Device) string {
	switch {
	case d.Speed == 0: // not known
	case d.Speed < highSpeed:
		return fmt.Sprintf("its link is USB 1 at %d Mbit/s, too slow for video: another port, cable or hub", d.Speed)
	case d.Speed < superSpeed && needsSuperSpeed(d):
		return fmt.Sprintf("a USB 3 device at %d Mbit/s: the port, the cable or a hub is USB 2, and large pictures come slowly or as JPEG", d.Speed)
	}
	return ""
}

// needsSuperSpeed reports whether a device is made for USB 3. On a USB 2 link such a device says version 2.10.
func needsSuperSpeed(d usb.Device) bool {
	version, err := strconv.ParseFloat(cmp.Or(d.Version, "0"), 64)
	return err == nil && version >= 2.10
}
