package v4l2

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gantry/device"
	"gantry/internal/usb"
	kernel "gantry/internal/v4l2"
	"gantry/media"
)

// How Config.Device may name a node otherwise than by its path; and as a usb.Name.
const (
	byBus  = "bus:"  // what the driver says about where the device sits: "bus:platform:rk_hdmirx"
	byName = "name:" // the node's name in /sys: "name:USB3. 0 capture: USB3. 0 captur"
)

// Find returns the path of the node that Config.Device means, as "/dev/video0". Nodes get other numbers when a device is plugged in
// again; what else names it stays the same. Its errors wrap device.ErrNotFound, and device.ErrUnsupported where the name is that of
// two devices.
func Find(name string) (string, error) { return find(name, 0) }

// find prefers, of the nodes of one USB device, the one that offers a pixel format.
func find(name string, format media.FourCC) (string, error) {
	if strings.HasPrefix(name, "/") {
		return name, nil
	}
	if strings.HasPrefix(name, usb.Prefix) {
		return findUSB(os.DirFS("/"), name, format)
	}
	entries, _ := filepath.Glob("/sys/class/video4linux/video*")
	slices.SortFunc(entries, func(a, b string) int { return nodeNumber(a) - nodeNumber(b) })
	for _, e := range entries {
		if path := "/dev/" + filepath.Base(e); means(name, e, path) {
			return path, nil
		}
	}
	return "", notThere(name)
}

func notThere(name string) error {
	return fmt.Errorf("%w: %s; is it plugged in? gantryd probe lists what there is", device.ErrNotFound, name)
}

// means reports whether name is that of a node which captures.
func means(name, entry, path string) bool {
	if want, ok := strings.CutPrefix(name, byName); ok {
		text, err := os.ReadFile(filepath.Join(entry, "name"))
		return err == nil && strings.TrimSpace(string(text)) == want
	}
	want, ok := strings.CutPrefix(name, byBus)
	if !ok {
		return false
	}
	dev, err := kernel.Open(path)
	if err != nil {
		return false
	}
	defer dev.Close()
	return dev.Bus() == want && dev.CaptureType() != 0 && !dev.Mem2Mem()
}

// findUSB returns the node of a USB device that captures: the one that offers the format, else the first.
func findUSB(root fs.FS, name string, format media.FourCC) (string, error) {
	nodes, err := nodesOf(root, name)
	if err != nil {
		return "", err
	}
	var first string
	var failed error
	for _, path := range nodes {
		dev, err := kernel.Open(path)
		if err != nil { // without permission yet, or gone again
			failed = cmp.Or(failed, explainOpen(path, err))
			continue
		}
		captures := dev.CaptureType() != 0 && !dev.Mem2Mem() // a camera has a node for metadata too
		offered, _ := dev.Formats(dev.CaptureType())
		dev.Close()
		switch {
		case !captures:
		case format == 0, slices.ContainsFunc(offered, func(f kernel.FormatInfo) bool { return f.FourCC == format }):
			return path, nil
		case first == "":
			first = path
		}
	}
	switch {
	case first != "":
		return first, nil
	case failed != nil:
		return "", failed
	}
	return "", notThere(name)
}

// nodesOf returns the nodes of the USB device that a configuration means, by number. Where two devices are meant it refuses: which
// one captures must not depend on which was first.
func nodesOf(root fs.FS, name string) ([]string, error) {
	want, err := usb.ParseName(name)
	if err != nil {
		return nil, err
	}
	entries, _ := fs.Glob(root, "sys/class/video4linux/video*")
	slices.SortFunc(entries, func(a, b string) int { return nodeNumber(a) - nodeNumber(b) })
	var nodes []string
	place := ""
	for _, e := range entries {
		d, ok := usb.Of(root, "video4linux", filepath.Base(e))
		if !ok || !want.Means(d) {
			continue
		}
		if place != "" && place != d.Place {
			return nil, fmt.Errorf("%w: %s: the devices at %s and %s have the same serial number: name it by its place, usb:%s",
				device.ErrUnsupported, name, place, d.Place, place)
		}
		place = d.Place
		nodes = append(nodes, "/dev/"+filepath.Base(e))
	}
	if len(nodes) == 0 {
		return nil, notThere(name)
	}
	return nodes, nil
}
