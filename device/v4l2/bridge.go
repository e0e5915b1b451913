package v4l2

import (
	"errors"

	"golang.org/x/sys/unix"

	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
)

// A bridge is what feeds a capture node of the media controller: sub-devices, of which an HDMI receiver may be one. On such
// devices timings, EDID and the state of the signal are the receiver's, and the node only writes memory.
type bridge struct {
	chain    []kernel.Entity // the nearest first
	receiver *kernel.Device  // nil where no sub-device knows digital timings: a camera
}

// openBridge finds what feeds a node; nil for nodes that drive their hardware themselves.
func openBridge(dev *kernel.Device) (*bridge, error) {
	if _, err := dev.SelectedInput(); dev.Caps()&uapi.CapIOMC == 0 && !errors.Is(err, unix.ENOTTY) {
		return nil, nil
	}
	g, err := kernel.GraphOf(dev.Path())
	if err != nil || g == nil {
		return nil, err
	}
	chain, err := g.Upstream(dev.Path())
	if err = errors.Join(err, g.Close()); err != nil || len(chain) == 0 {
		return nil, err
	}
	b := &bridge{chain: chain}
	for _, e := range chain {
		if e.Node == "" {
			continue
		}
		d, err := kernel.OpenSubdev(e.Node)
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		if _, err := d.QueryTimings(); !errors.Is(err, unix.ENOTTY) && b.receiver == nil {
			b.receiver = d
			continue
		}
		if err := d.Close(); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

func (b *bridge) close() error {
	if b == nil || b.receiver == nil {
		return nil
	}
	return b.receiver.Close()
}

// receiver returns the device that knows the signal.
func (s *Source) receiver() *kernel.Device {
	if s.bridge != nil && s.bridge.receiver != nil {
		return s.bridge.receiver
	}
	return s.dev
}

// bridged reports whether the signal is a sub-device's.
func (s *Source) bridged() bool { return s.bridge != nil && s.bridge.receiver != nil }

// sizeOnTheBus hands the source's format down to the node and returns the size that arrives; zeros without a bridge.
func (s *Source) sizeOnTheBus() (width, height int, err error) {
	if s.bridge == nil {
		return 0, 0, nil
	}
	f, err := kernel.Propagate(s.bridge.chain)
	return int(f.Width), int(f.Height), err
}
