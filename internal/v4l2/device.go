package v4l2

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"gantry/internal/v4l2/uapi"
)

// A Device is an open node. Its methods may be called from several goroutines; Close only after all else has returned.
type Device struct {
	path string
	fd   int
	caps uapi.Capability
}

// Open opens a node such as /dev/video0 and asks what it can do.
func Open(path string) (*Device, error) {
	var fd int
	for {
		var err error
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		break
	}
	caps, err := uapi.QueryCap(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Device{path: path, fd: fd, caps: caps}, nil
}

// Close frees the node. Queues and Waiters are closed before.
func (d *Device) Close() error { return unix.Close(d.fd) }

// Path returns the path that the device was opened by.
func (d *Device) Path() string { return d.path }

// Driver returns the name of the driver.
func (d *Device) Driver() string { return text(d.caps.Driver[:]) }

// Card returns the device's name.
func (d *Device) Card() string { return text(d.caps.Card[:]) }

// Bus returns where the device sits, as "usb-0000:00:14.0-1".
func (d *Device) Bus() string { return text(d.caps.BusInfo[:]) }

// Caps returns what this node can do (uapi.Cap...).
func (d *Device) Caps() uint32 {
	if d.caps.Capabilities&uapi.CapDeviceCaps != 0 {
		return d.caps.DeviceCaps
	}
	return d.caps.Capabilities
}

// CaptureType returns the type of the node's capture queue, 0 when it has none. Memory-to-memory devices have one too.
func (d *Device) CaptureType() uapi.BufType {
	switch c := d.Caps(); {
	case c&(uapi.CapVideoCapture|uapi.CapVideoM2M) != 0:
		return uapi.VideoCapture
	case c&(uapi.CapVideoCaptureMplane|uapi.CapVideoM2MMplane) != 0:
		return uapi.VideoCaptureMplane
	}
	return 0
}

// OutputType returns the type of the queue into the device, 0 when it has none.
func (d *Device) OutputType() uapi.BufType {
	switch c := d.Caps(); {
	case c&(uapi.CapVideoOutput|uapi.CapVideoM2M) != 0:
		return uapi.VideoOutput
	case c&(uapi.CapVideoOutputMplane|uapi.CapVideoM2MMplane) != 0:
		return uapi.VideoOutputMplane
	}
	return 0
}

// Mem2Mem reports whether the node converts (encodes, decodes, scales) rather than captures.
func (d *Device) Mem2Mem() bool { return d.Caps()&(uapi.CapVideoM2M|uapi.CapVideoM2MMplane) != 0 }

// wrap adds the device's path to err.
func (d *Device) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", d.path, err)
}

// text returns the C string in b.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(bytes.ToValidUTF8(b, nil))
}
