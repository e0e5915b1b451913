package v4l2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/device"
	"gantry/device/v4l2/edid"
	kernel "gantry/internal/v4l2"
)

// maxEDIDFile bounds what is read of a file: the most blocks that an EDID can have.
const maxEDIDFile = 256 * edid.BlockSize

// LoadEDID returns a preset's EDID, or that of a file, checked.
func LoadEDID(name string) ([]byte, error) {
	if data, ok := edid.Preset(name); ok {
		return data, nil
	}
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) && !strings.Contains(name, "/") {
		return nil, fmt.Errorf("EDID %q is neither a file nor one of %s", name, strings.Join(edid.Presets(), ", "))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEDIDFile+1))
	if err != nil {
		return nil, err
	}
	if err := edid.Check(data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// ReadEDID returns what an input of a device tells senders about itself; nil when nothing. The device is named as in Config;
// input -1 is the selected one.
func ReadEDID(name string, input int) ([]byte, error) {
	var data []byte
	err := withDevice(name, input, func(d *kernel.Device, pad int) (err error) {
		data, err = d.EDID(pad)
		return noEDID(d, err)
	})
	return data, err
}

// WriteEDID sets an input's EDID, nil clears it. The sender notices, and sends anew; with none it sees nothing connected.
func WriteEDID(name string, input int, data []byte) error {
	if data != nil {
		if err := edid.Check(data); err != nil {
			return err
		}
	}
	return withDevice(name, input, func(d *kernel.Device, pad int) error { return noEDID(d, d.SetEDID(pad, data)) })
}

func withDevice(name string, input int, fn func(d *kernel.Device, pad int) error) error {
	path, err := Find(name)
	if err != nil {
		return err
	}
	d, err := kernel.Open(path)
	if err != nil {
		return explainOpen(path, err)
	}
	defer d.Close()
	b, err := openBridge(d)
	if err != nil {
		return err
	}
	if b != nil && b.receiver != nil { // one receiver; its pads are numbered from 0, the sink
		return errors.Join(fn(b.receiver, 0), b.close())
	}
	if input < 0 {
		if input, err = d.SelectedInput(); err != nil {
			input = 0 // a bridge of the media controller: it has one
		}
	}
	return fn(d, input)
}

// noEDID explains the errors of EDID calls.
func noEDID(d *kernel.Device, err error) error {
	switch {
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s: %w: this input has no EDID that could be read or set", d.Path(), device.ErrUnsupported)
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("%s: %w: the EDID has more blocks than the receiver has room for", d.Path(), device.ErrUnsupported)
	}
	return err
}

// setEDID sets the configured EDID unless it is set already: setting it makes the sender start anew.
func (s *Source) setEDID() error {
	if s.cfg.EDID == keep || s.cfg.EDID == "" {
		return nil
	}
	want, err := LoadEDID(s.cfg.EDID)
	if err != nil {
		return err
	}
	pad := max(s.input, 0)
	d := s.receiver()
	if s.bridged() {
		pad = 0
	}
	if set, err := d.EDID(pad); err == nil && bytes.Equal(set, want) {
		return nil
	}
	return noEDID(d, d.SetEDID(pad, want))
}
