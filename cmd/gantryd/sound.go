package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"gantry/device"
	"gantry/device/alsa"
	"gantry/device/v4l2"
	"gantry/internal/usb"
)

// soundCard returns what opens the sound card. Where the configuration leaves its choice open and the pictures come from a USB device,
// it is the card of that device and never another: a box without its dongle is silent and does not listen to the room.
func soundCard(c alsa.Config, v videoConfig, log *slog.Logger) func(context.Context) (device.AudioSource, error) {
	return func(context.Context) (device.AudioSource, error) {
		card := c
		if goesWithVideo(c, v) {
			node, err := v4l2.Find(v.V4L2.Device)
			if err == nil {
				card.Card, err = cardOf(os.DirFS("/"), node)
			}
			if err != nil {
				return nil, fmt.Errorf("sound of the video device: %w", err)
			}
		}
		src, err := alsa.Open(card, log)
		if err != nil {
			return nil, err // a nil *Source is no nil AudioSource
		}
		return src, nil
	}
}

// goesWithVideo tells whether the card is looked for beside the video device.
func goesWithVideo(c alsa.Config, v videoConfig) bool {
	return c.Card == alsa.Auto && v.Source == sourceV4L2
}

// cardOf names the card that belongs to a video node, by /sys under root; any card for a node that is on no USB.
func cardOf(root fs.FS, node string) (string, error) {
	if real, err := filepath.EvalSymlinks(node); err == nil { // a link of /dev/v4l
		node = real
	}
	name := strings.TrimPrefix(node, "/dev/")
	if _, err := fs.Lstat(root, "sys/class/video4linux/"+name); err != nil {
		return "", fmt.Errorf("%w: %s", device.ErrNotFound, node)
	}
	d, ok := usb.Of(root, "video4linux", name)
	if !ok {
		return alsa.Auto, nil
	}
	return alsa.Beside(root, d)
}
