package v4l2

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gantry/device"
	kernel "gantry/internal/v4l2"
)

// How Config.Device may name a node otherwise than by its path.
const (
	byBus  = "bus:"  // what the driver says about where the device sits: "bus:usb-0000:00:14.0-1"
	byName = "name:" // the node's name in /sys: "name:USB3. 0 capture: USB3. 0 captur"
)

// find returns the node that a configuration means. Nodes get other numbers when a device is plugged in again; its bus and
// its name stay the same.
func find(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return name, nil
	}
	entries, _ := filepath.Glob("/sys/class/video4linux/video*")
	slices.SortFunc(entries, func(a, b string) int { return nodeNumber(a) - nodeNumber(b) })
	for _, e := range entries {
		if path := "/dev/" + filepath.Base(e); means(name, e, path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s; is it plugged in? gantryd probe lists what there is", device.ErrNotFound, name)
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
