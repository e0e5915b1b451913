package v4l2

import (
	"errors"
	"fmt"
	"strings"

	"gantry/device/v4l2/edid"
	"gantry/internal/usb"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// Config says what to capture. It is comparable.
type Config struct {
	// Device is the node, as "/dev/video0" or a stable link of /dev/v4l/by-path; or what stays the same when a device is plugged in
	// again and gets another number: of a USB device "usb:1-1.4", whatever is in that port, or "usb:0fd9:0066:SERIAL", that very
	// device in any port; of others "bus:" with the place that the driver gives, or "name:" with the node's name.
	Device string `yaml:"device"`
	// Input is the connector's number; -1 leaves the one that is selected.
	Input int `yaml:"input"`
	// EDID is what the input tells the sender that it takes: a preset of package edid, the absolute path of a file, or "keep".
	EDID string `yaml:"edid"`
	// Standard is that of an analogue input: "auto", "pal", "ntsc", "secam", or "keep" for the one that is set.
	Standard string `yaml:"standard"`
	// Width and Height are in pixels; 0 takes what the driver has, or what the signal brings.
	Width  int `yaml:"width"`
	Height int `yaml:"height"`
	// Format is the pixel layout's four-character code, as "NV12"; empty takes the driver's current one if Gantry knows it, else
	// the best that the driver offers; with a size or a rate, one that the driver offers in it. "H264" is for Packets.
	Format string `yaml:"format"`
	// Rate is in pictures per second; 0 takes what the driver has, or what the signal brings.
	Rate media.Rational `yaml:"rate"`
	// Buffers is how many pictures the driver has memory for: one being filled, the others waiting or in use.
	Buffers int `yaml:"buffers"`
}

// Default captures what /dev/video0 delivers by itself.
func Default() Config {
	return Config{Device: "/dev/video0", Input: -1, EDID: keep, Standard: auto, Buffers: 6}
}

// Values of EDID and Standard.
const (
	keep = "keep"
	auto = "auto"
)

var standards = map[string]uapi.Std{keep: 0, auto: uapi.StdAll, "pal": uapi.StdPAL, "ntsc": uapi.StdNTSC, "secam": uapi.StdSECAM}

// Coded tells whether c asks for pictures that come coded as video: Packets, not a Source.
func (c Config) Coded() bool { return c.Format == passed.code.String() }

// Validate returns all that is wrong with c, each error beginning with the key it is about.
func (c Config) Validate() error {
	var errs []error
	switch {
	case strings.HasPrefix(c.Device, "/"), strings.HasPrefix(c.Device, byBus), strings.HasPrefix(c.Device, byName):
	case strings.HasPrefix(c.Device, usb.Prefix):
		if _, err := usb.ParseName(c.Device); err != nil {
			errs = append(errs, fmt.Errorf("device: %w", err))
		}
	default:
		errs = append(errs, fmt.Errorf("device: %q is not an absolute path, such as /dev/video0, nor usb:…, bus:… or name:…", c.Device))
	}
	if c.Input < -1 || c.Input > 63 {
		errs = append(errs, fmt.Errorf("input: %d is not a connector's number from 0 to 63, or -1 for the selected one", c.Input))
	}
	if _, preset := edid.Preset(c.EDID); !preset && c.EDID != keep && !strings.HasPrefix(c.EDID, "/") {
		errs = append(errs, fmt.Errorf("edid: %q is not keep, one of %s, or the absolute path of a file", c.EDID, strings.Join(edid.Presets(), ", ")))
	}
	if _, ok := standards[c.Standard]; !ok {
		errs = append(errs, fmt.Errorf("standard: %q is not one of auto, keep, ntsc, pal, secam", c.Standard))
	}
	for _, side := range []struct {
		key   string
		value int
	}{{"width", c.Width}, {"height", c.Height}} {
		if side.value != 0 && (side.value < 16 || side.value > 16384) {
			errs = append(errs, fmt.Errorf("%s: %d is not from 16 to 16384, or 0 for the device's own", side.key, side.value))
		}
	}
	if (c.Width == 0) != (c.Height == 0) {
		errs = append(errs, errors.New("height: width and height are given both or neither"))
	}
	if c.Format != "" {
		if _, ok := layoutOf(c.Format); !ok {
			errs = append(errs, fmt.Errorf("format: %q is not one of %s", c.Format, strings.Join(layoutNames(), ", ")))
		}
	}
	if r := c.Rate.Float(); c.Rate != (media.Rational{}) && (c.Rate.Num < 0 || c.Rate.Den <= 0 || c.Rate.Num > 0 && (r < 1 || r > 480)) {
		errs = append(errs, fmt.Errorf("rate: %v is not from 1 to 480 pictures a second, or 0 for the device's own", c.Rate))
	}
	if c.Buffers < 2 || c.Buffers > 32 {
		errs = append(errs, fmt.Errorf("buffers: %d is not from 2 to 32", c.Buffers))
	}
	return errors.Join(errs...)
}
