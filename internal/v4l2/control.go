package v4l2

import (
	"errors"

	"golang.org/x/sys/unix"

	"gantry/internal/v4l2/uapi"
)

// A Control is one setting of a device and its range.
type Control struct {
	ID                      uint32
	Type                    uint32 // uapi.Ctrl...
	Name                    string
	Min, Max, Step, Default int64
	Flags                   uint32 // uapi.CtrlFlag...
}

// Control describes the setting id.
func (d *Device) Control(id uint32) (Control, error) {
	q := uapi.ExtCtrlInfo{ID: id}
	if err := uapi.QueryExtCtrl(d.fd, &q); err != nil {
		return Control{}, d.wrap(err)
	}
	return control(&q), nil
}

// Controls lists the device's settings.
func (d *Device) Controls() ([]Control, error) {
	var list []Control
	last := uint32(0)
	for range maxEntries {
		q := uapi.ExtCtrlInfo{ID: last | uapi.CtrlNext}
		if err := uapi.QueryExtCtrl(d.fd, &q); err != nil {
			return list, d.wrap(pastEnd(err))
		}
		last = q.ID
		list = append(list, control(&q))
	}
	return list, nil
}

func control(q *uapi.ExtCtrlInfo) Control {
	return Control{ID: q.ID, Type: q.Type, Name: text(q.Name[:]), Min: q.Min, Max: q.Max, Step: int64(q.Step), Default: q.Default, Flags: q.Flags}
}

// Menu lists the entries of a menu control by their values.
func (d *Device) Menu(c Control) (map[int64]string, error) {
	menu := map[int64]string{}
	for v := c.Min; v <= c.Max && v-c.Min < maxEntries; v++ {
		m := uapi.MenuItem{ID: c.ID, Index: uint32(v)}
		switch err := uapi.QueryMenu(d.fd, &m); {
		case errors.Is(err, unix.EINVAL): // a hole
		case err != nil:
			return menu, d.wrap(err)
		default:
			menu[v] = text(m.Name[:])
		}
	}
	return menu, nil
}

// GetControl reads a number.
func (d *Device) GetControl(id uint32) (int64, error) {
	list := []uapi.ExtControl{{ID: id}}
	var c uapi.ExtControls
	c.SetControls(list)
	if err := uapi.GExtCtrls(d.fd, &c); err != nil {
		return 0, d.wrap(err)
	}
	info, err := d.Control(id)
	if err == nil && info.Type == uapi.CtrlInteger64 {
		return list[0].Value64(), nil
	}
	return int64(list[0].Value()), nil
}

// A Setting is a new value of a control; for a button, any.
type Setting struct {
	ID    uint32
	Value int64
}

// SetControls sets several controls at once, all or none.
func (d *Device) SetControls(settings ...Setting) error {
	list := make([]uapi.ExtControl, len(settings))
	for i, s := range settings {
		list[i].ID = s.ID
		list[i].SetValue(s.Value)
	}
	var c uapi.ExtControls
	c.SetControls(list)
	return d.wrap(uapi.SExtCtrls(d.fd, &c))
}
