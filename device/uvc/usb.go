// Package uvc knows what USB dongles and webcams do not say of themselves: by their USB id, what is known to be wrong with them. It lists and sets their image controls, and measures how many pictures a second they give.
//
// Their pictures are captured by device/v4l2, which keeps the driver's timestamps, and their sound by device/alsa; who they are and
// where they are plugged in is read by internal/usb. Image controls need cgo: a build without it, or with the tag nolibav, says so by
// Missing.
package uvc

import (
	"io/fs"

	"gantry/internal/usb"
)

// A Dongle is the USB device behind a video node.
type Dongle struct {
	usb.Device
	Notes []string `json:"notes,omitempty"` // what to know of it, in words
}

// Find returns the USB device of a video node such as "video0", by /sys under root. It returns false for one that is on no USB.
func Find(root fs.FS, node string) (Dongle, bool) {
	d, ok := usb.Of(root, "video4linux", node)
	if !ok {
		return Dongle{}, false
	}
	var notes []string
	if slow := d.SlowLink(); slow != "" {
		notes = append(notes, slow)
	}
	for _, q := range Quirks {
		if q.ID == d.ID {
			notes = append(notes, q.String())
		}
	}
	return Dongle{Device: d, Notes: notes}, true
}
