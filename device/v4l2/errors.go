package v4l2

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"gantry/device"
	kernel "gantry/internal/v4l2"
)

// explainOpen turns what open(2) and the first ioctl said into what to do.
func explainOpen(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %s; is it plugged in? gantryd probe lists what there is", device.ErrNotFound, path)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w; the user that runs gantryd must belong to the group video", err)
	case errors.Is(err, unix.EBUSY):
		return busy(path)
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s is no video device: %w; gantryd probe lists the nodes that capture", path, device.ErrUnsupported)
	}
	return err
}

func busy(path string) error {
	return fmt.Errorf("%s: %w: another program captures from it; \"fuser -v %s\" names it", path, device.ErrBusy, path)
}

// explain turns the kernel's error about an open device into the contract's.
func explain(dev *kernel.Device, err error) error {
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s: %w: unplugged, or its driver was unloaded", dev.Path(), device.ErrGone)
	case errors.Is(err, unix.EIO):
		return fmt.Errorf("%w: %w", device.ErrGone, err)
	case errors.Is(err, unix.EBUSY):
		return busy(dev.Path())
	case errors.Is(err, unix.ENOLINK), errors.Is(err, unix.ENOLCK):
		return fmt.Errorf("%w: %w", device.ErrNoSignal, err)
	}
	return err
}
