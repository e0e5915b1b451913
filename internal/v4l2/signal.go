package v4l2

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// An Input is one connector of a capture device.
type Input struct {
	Index     int
	Name      string
	Status    uint32 // uapi.InSt...: what is wrong with the signal
	DVTimings bool   // digital: HDMI, SDI, DisplayPort
	Standards uapi.Std
}

// Input describes the connector index.
func (d *Device) Input(index int) (Input, error) {
	in := uapi.Input{Index: uint32(index)}
	if err := uapi.EnumInput(d.fd, &in); err != nil {
		return Input{}, d.wrap(err)
	}
	out := Input{Index: index, Name: text(in.Name[:]), Status: in.Status, DVTimings: in.Capabilities&uapi.InCapDVTimings != 0}
	if in.Capabilities&uapi.InCapStd != 0 {
		out.Standards = in.Std
	}
	return out, nil
}

// Inputs lists the connectors; none for devices of the media controller, whose connectors are elsewhere.
func (d *Device) Inputs() ([]Input, error) {
	var list []Input
	for i := range maxEntries {
		in, err := d.Input(i)
		if err != nil {
			return list, pastEnd(err)
		}
		list = append(list, in)
	}
	return list, nil
}

// SelectedInput returns the index of the connector in use.
func (d *Device) SelectedInput() (int, error) {
	i, err := uapi.GInput(d.fd)
	return int(i), d.wrap(err)
}

// SelectInput switches to a connector; EBUSY while the device streams.
func (d *Device) SelectInput(index int) error { return d.wrap(uapi.SInput(d.fd, int32(index))) }

// Timings returns the digital timings that are set.
func (d *Device) Timings() (uapi.DVTimings, error) {
	var t uapi.DVTimings
	err := uapi.GDVTimings(d.fd, &t)
	return t, d.wrap(err)
}

// SetTimings sets the digital timings; EBUSY while buffers are allocated.
func (d *Device) SetTimings(t uapi.DVTimings) error { return d.wrap(uapi.SDVTimings(d.fd, &t)) }

// QueryTimings detects the timings of the signal: ENOLINK no signal, ENOLCK unstable, ERANGE out of range.
func (d *Device) QueryTimings() (uapi.DVTimings, error) {
	var t uapi.DVTimings
	err := uapi.QueryDVTimings(d.fd, &t)
	return t, d.wrap(err)
}

// ListTimings lists the digital timings that the device knows.
func (d *Device) ListTimings() ([]uapi.DVTimings, error) {
	var list []uapi.DVTimings
	for i := range uint32(maxEntries) {
		e := uapi.DVTimingsEnum{Index: i}
		if err := uapi.EnumDVTimings(d.fd, &e); err != nil {
			return list, d.wrap(pastEnd(err))
		}
		list = append(list, e.Timings)
	}
	return list, nil
}

// TimingsCap returns the limits of the device's digital timings.
func (d *Device) TimingsCap() (uapi.DVTimingsCap, error) {
	var c uapi.DVTimingsCap
	err := uapi.GetDVTimingsCap(d.fd, &c)
	return c, d.wrap(err)
}

// TimingsRate returns the pictures per second of t (an interlaced picture is two fields), 0/0 when it does not say.
func TimingsRate(t uapi.DVTimings) media.Rational {
	width := uint64(t.Width) + uint64(t.HFrontPorch) + uint64(t.HSync) + uint64(t.HBackPorch)
	height := uint64(t.Height) + uint64(t.VFrontPorch) + uint64(t.VSync) + uint64(t.VBackPorch)
	if t.Interlaced != 0 {
		height += uint64(t.ILVFrontPorch) + uint64(t.ILVSync) + uint64(t.ILVBackPorch)
	}
	clock := t.PixelClock.Value()
	if clock == 0 || width == 0 || height == 0 {
		return media.Rational{}
	}
	return standardRate(reduce(clock, width*height))
}

// standardRate returns the common rate that r measures, or r itself. Pixel clocks are rounded and measured: 74176000 Hz is
// 59.94 pictures a second only roughly.
func standardRate(r media.Rational) media.Rational {
	for _, n := range []int{24, 25, 30, 48, 50, 60, 100, 120} {
		for _, s := range []media.Rational{{Num: n, Den: 1}, {Num: n * 1000, Den: 1001}} {
			if deviation := r.Float()/s.Float() - 1; deviation > -0.0002 && deviation < 0.0002 {
				return s
			}
		}
	}
	return r
}

// SameTimings reports whether a picture of timings a is one of b: same size and scan, and a rate within 0.05 % (59.94 and 60
// are 0.1 % apart).
func SameTimings(a, b uapi.DVTimings) bool {
	ra, rb := TimingsRate(a).Float(), TimingsRate(b).Float()
	if ra == 0 || rb == 0 {
		return a.Width == b.Width && a.Height == b.Height && a.Interlaced == b.Interlaced && ra == rb
	}
	deviation := ra/rb - 1
	return a.Width == b.Width && a.Height == b.Height && a.Interlaced == b.Interlaced && deviation > -0.0005 && deviation < 0.0005
}

// DescribeTimings returns, for instance, "1920x1080p60" or "1920x1080i30000/1001".
func DescribeTimings(t uapi.DVTimings) string {
	scan := "p"
	if t.Interlaced != 0 {
		scan = "i"
	}
	return fmt.Sprintf("%dx%d%s%v", t.Width, t.Height, scan, TimingsRate(t))
}

// Standard returns the analogue standard that is set.
func (d *Device) Standard() (uapi.Std, error) {
	s, err := uapi.GStd(d.fd)
	return s, d.wrap(err)
}

// SetStandard sets the analogue standard.
func (d *Device) SetStandard(s uapi.Std) error { return d.wrap(uapi.SStd(d.fd, s)) }

// QueryStandard detects the analogue standard of the signal.
func (d *Device) QueryStandard() (uapi.Std, error) {
	s, err := uapi.QueryStd(d.fd)
	return s, d.wrap(err)
}

// edidBlock is the length of one block of an EDID in bytes.
const edidBlock = 128

// EDID returns what the input tells the sending device about itself, in blocks of 128 bytes; nil when nothing is set.
func (d *Device) EDID(input int) ([]byte, error) {
	e := uapi.EDID{Pad: uint32(input)}
	if err := uapi.GEDID(d.fd, &e); err != nil { // without memory, it returns the number of blocks
		if errors.Is(err, unix.ENODATA) {
			return nil, nil
		}
		return nil, d.wrap(err)
	}
	if e.Blocks == 0 {
		return nil, nil
	}
	data := make([]byte, e.Blocks*edidBlock)
	e.StartBlock, e.Data = 0, unsafe.SliceData(data)
	if err := uapi.GEDID(d.fd, &e); err != nil {
		return nil, d.wrap(err)
	}
	return data[:min(int(e.Blocks)*edidBlock, len(data))], nil
}

// SetEDID sets the input's EDID, whole blocks of 128 bytes; nil clears it, and the sending device then sees no display.
func (d *Device) SetEDID(input int, data []byte) error {
	if len(data)%edidBlock != 0 {
		return fmt.Errorf("set EDID: %d bytes are not whole blocks of %d", len(data), edidBlock)
	}
	e := uapi.EDID{Pad: uint32(input), Blocks: uint32(len(data) / edidBlock), Data: unsafe.SliceData(data)}
	return d.wrap(uapi.SEDID(d.fd, &e))
}

// Subscribe asks for events of a type (uapi.Event...) of one id: a control, or an input.
func (d *Device) Subscribe(typ, id uint32) error {
	return d.wrap(uapi.SubscribeEvent(d.fd, &uapi.EventSubscription{Type: typ, ID: id}))
}

// NextEvent takes the oldest event; ok is false when there is none.
func (d *Device) NextEvent() (e uapi.Event, ok bool, err error) {
	switch err := uapi.DQEvent(d.fd, &e); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTTY): // none now; none ever
		return e, false, nil
	case err != nil:
		return e, false, d.wrap(err)
	}
	return e, true, nil
}

// StopEncoder drains an encoder: the last coded buffer carries uapi.BufFlagLast, then an EOS event comes.
func (d *Device) StopEncoder() error {
	return d.wrap(uapi.EncCmd(d.fd, &uapi.EncoderCmd{Cmd: uapi.CmdStop}))
}

// StartEncoder lets an encoder go on after a drain.
func (d *Device) StartEncoder() error {
	return d.wrap(uapi.EncCmd(d.fd, &uapi.EncoderCmd{Cmd: uapi.CmdStart}))
}
