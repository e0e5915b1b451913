//go:build cgo && !nolibav

package uvc

import (
	"errors"
	"fmt"

	"github.com/vladimirvivien/go4vl/v4l2"
	"golang.org/x/sys/unix"
)

// Missing says why this build has no image controls; empty when it has.
func Missing() string { return "" }

// The classes whose controls change the picture: a control's id with its lower 16 bits cleared.
const (
	userClass   = 0x00980000 // brightness, contrast and so on
	cameraClass = 0x009a0000 // exposure, focus, zoom
	classMask   = 0x0fff0000

	// Among those of the user class: volume to loudness, of television cards.
	firstOfSound = userClass | 0x905
	lastOfSound  = userClass | 0x90a
)

// Controls returns the image controls of a node such as "/dev/video0" and their values now. A node may have none.
func Controls(node string) (list []Control, err error) {
	err = withNode(node, func(fd uintptr) error {
		all, err := v4l2.QueryAllControls(fd)
		switch {
		case errors.Is(err, v4l2.ErrorUnsupported), errors.Is(err, v4l2.ErrorBadArgument) && len(all) == 0:
			return nil
		case err != nil:
			return fmt.Errorf("list controls of %s: %w", node, err)
		}
		for _, q := range all {
			if class := q.ID & classMask; class != userClass && class != cameraClass || q.ID >= firstOfSound && q.ID <= lastOfSound {
				continue
			}
			switch q.Type {
			case v4l2.CtrlTypeInt, v4l2.CtrlTypeBool, v4l2.CtrlTypeMenu, v4l2.CtrlTypeIntegerMenu:
			default:
				continue // a heading, a button, or of more than 32 bits
			}
			value, err := v4l2.GetControlValue(fd, q.ID)
			if err != nil {
				continue // write-only, or disabled for now
			}
			c := Control{ID: q.ID, Name: q.Name, Value: value, Min: q.Minimum, Max: q.Maximum, Step: q.Step, Default: q.Default}
			if q.IsMenu() {
				items, err := q.GetMenuItems()
				if err != nil {
					return fmt.Errorf("list menu of %q of %s: %w", q.Name, node, err)
				}
				c.Menu = map[int32]string{}
				for _, item := range items {
					c.Menu[int32(item.Index)] = item.Name
				}
			}
			list = append(list, c)
		}
		return nil
	})
	return list, err
}

// SetControl sets one control of a node. It stays until somebody sets it again, also after this program's end.
func SetControl(node string, id uint32, value int32) error {
	return withNode(node, func(fd uintptr) error {
		if err := v4l2.SetControlValue(fd, id, value); err != nil {
			return fmt.Errorf("set control 0x%08x of %s to %d: %w", id, node, value, err)
		}
		return nil
	})
}

// withNode opens a node for f. Opening takes nothing from who captures from it.
func withNode(node string, f func(fd uintptr) error) error {
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", node, err)
	}
	return errors.Join(f(uintptr(fd)), unix.Close(fd))
}
