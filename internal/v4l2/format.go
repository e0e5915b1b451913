package v4l2

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// A PlaneFormat is the layout of one plane of memory: bytes from line to line, and in all.
type PlaneFormat struct{ Stride, Size int }

// A Format describes the pictures, or the coded data, of one queue.
type Format struct {
	Width, Height int
	FourCC        media.FourCC // as the driver names it: NM12 is NV12 in two planes of memory
	Field         uapi.Field
	Colorspace    uint32 // enum v4l2_colorspace
	YCbCrEnc      uint32 // enum v4l2_ycbcr_encoding
	Quantization  uint32 // enum v4l2_quantization
	XferFunc      uint32 // enum v4l2_xfer_func
	Planes        []PlaneFormat
}

// String returns, for instance, "1280x720 NV12".
func (f Format) String() string { return fmt.Sprintf("%dx%d %v", f.Width, f.Height, f.FourCC) }

// Format returns the format of a queue.
func (d *Device) Format(t uapi.BufType) (Format, error) {
	f := uapi.Format{Type: t}
	if err := uapi.GFmt(d.fd, &f); err != nil {
		return Format{}, d.wrap(err)
	}
	return fromKernel(&f), nil
}

// SetFormat asks for a format and returns the nearest that the driver took. Planes that are nil are left to the driver.
func (d *Device) SetFormat(t uapi.BufType, want Format) (Format, error) {
	f := toKernel(t, want)
	if err := uapi.SFmt(d.fd, f); err != nil {
		return Format{}, d.wrap(err)
	}
	return fromKernel(f), nil
}

// TryFormat is SetFormat that changes nothing.
func (d *Device) TryFormat(t uapi.BufType, want Format) (Format, error) {
	f := toKernel(t, want)
	if err := uapi.TryFmt(d.fd, f); err != nil {
		return Format{}, d.wrap(err)
	}
	return fromKernel(f), nil
}

func fromKernel(f *uapi.Format) Format {
	if f.Type.Multiplanar() {
		p := f.PixMplane()
		out := Format{
			Width: int(p.Width), Height: int(p.Height), FourCC: media.FourCC(p.PixelFormat), Field: p.Field,
			Colorspace: p.Colorspace, YCbCrEnc: uint32(p.YCbCrEnc), Quantization: uint32(p.Quantization), XferFunc: uint32(p.XferFunc),
		}
		for _, plane := range p.Planes[:min(p.NumPlanes, uapi.MaxPlanes)] {
			out.Planes = append(out.Planes, PlaneFormat{Stride: int(plane.BytesPerLine), Size: int(plane.SizeImage)})
		}
		return out
	}
	p := f.Pix()
	return Format{
		Width: int(p.Width), Height: int(p.Height), FourCC: media.FourCC(p.PixelFormat), Field: p.Field,
		Colorspace: p.Colorspace, YCbCrEnc: p.YCbCrEnc, Quantization: p.Quantization, XferFunc: p.XferFunc,
		Planes: []PlaneFormat{{Stride: int(p.BytesPerLine), Size: int(p.SizeImage)}},
	}
}

func toKernel(t uapi.BufType, want Format) *uapi.Format {
	f := &uapi.Format{Type: t}
	if t.Multiplanar() {
		p := f.PixMplane()
		p.Width, p.Height, p.PixelFormat, p.Field = uint32(want.Width), uint32(want.Height), uint32(want.FourCC), want.Field
		p.Colorspace, p.YCbCrEnc = want.Colorspace, uint8(want.YCbCrEnc)
		p.Quantization, p.XferFunc = uint8(want.Quantization), uint8(want.XferFunc)
		for i, plane := range want.Planes[:min(len(want.Planes), uapi.MaxPlanes)] {
			p.Planes[i].BytesPerLine, p.Planes[i].SizeImage = uint32(plane.Stride), uint32(plane.Size)
			p.NumPlanes = uint8(i + 1)
		}
		return f
	}
	p := f.Pix()
	p.Width, p.Height, p.PixelFormat, p.Field = uint32(want.Width), uint32(want.Height), uint32(want.FourCC), want.Field
	p.Colorspace, p.YCbCrEnc, p.Quantization, p.XferFunc = want.Colorspace, want.YCbCrEnc, want.Quantization, want.XferFunc
	p.Priv = uapi.PixFmtPrivMagic
	if len(want.Planes) > 0 {
		p.BytesPerLine, p.SizeImage = uint32(want.Planes[0].Stride), uint32(want.Planes[0].Size)
	}
	return f
}

// A FormatInfo is one entry of the list of formats that a queue takes.
type FormatInfo struct {
	FourCC      media.FourCC
	Description string
	Compressed  bool
	Emulated    bool // converted by a library, not by the device
}

// Formats lists what a queue takes.
func (d *Device) Formats(t uapi.BufType) ([]FormatInfo, error) {
	var list []FormatInfo
	for i := range uint32(maxEntries) {
		e := uapi.FmtDesc{Index: i, Type: t}
		if err := uapi.EnumFmt(d.fd, &e); err != nil {
			return list, d.wrap(pastEnd(err))
		}
		list = append(list, FormatInfo{
			FourCC: media.FourCC(e.PixelFormat), Description: text(e.Description[:]),
			Compressed: e.Flags&uapi.FmtFlagCompressed != 0, Emulated: e.Flags&uapi.FmtFlagEmulated != 0,
		})
	}
	return list, nil
}

// A SizeRange is a range of picture sizes; Min equals Max for a single one.
type SizeRange struct{ MinWidth, MaxWidth, StepWidth, MinHeight, MaxHeight, StepHeight int }

// FrameSizes lists the sizes of a layout; none where the driver does not tell.
func (d *Device) FrameSizes(c media.FourCC) ([]SizeRange, error) {
	var list []SizeRange
	for i := range uint32(maxEntries) {
		e := uapi.FrameSize{Index: i, PixelFormat: uint32(c)}
		if err := uapi.EnumFrameSizes(d.fd, &e); err != nil {
			return list, d.wrap(pastEnd(err))
		}
		if e.Type == uapi.EnumDiscrete {
			w, h := e.Discrete()
			list = append(list, SizeRange{int(w), int(w), 1, int(h), int(h), 1})
			continue
		}
		return []SizeRange{{
			int(e.MinWidth), int(e.MaxWidth), int(e.StepWidth), int(e.MinHeight), int(e.MaxHeight), int(e.StepHeight),
		}}, nil
	}
	return list, nil
}

// FrameRates lists the picture rates of a layout and size, the highest and lowest where any between will do; none where the
// driver does not tell.
func (d *Device) FrameRates(c media.FourCC, width, height int) ([]media.Rational, error) {
	var list []media.Rational
	for i := range uint32(maxEntries) {
		e := uapi.FrameInterval{Index: i, PixelFormat: uint32(c), Width: uint32(width), Height: uint32(height)}
		if err := uapi.EnumFrameIntervals(d.fd, &e); err != nil {
			return list, d.wrap(pastEnd(err))
		}
		if e.Type != uapi.EnumDiscrete {
			return []media.Rational{rate(e.Min), rate(e.Max)}, nil
		}
		list = append(list, rate(e.Min))
	}
	return list, nil
}

// FrameRate returns the rate that is set, and whether it can be changed; 0/0 where the driver does not tell.
func (d *Device) FrameRate(t uapi.BufType) (r media.Rational, adjustable bool, err error) {
	p := uapi.StreamParm{Type: t}
	if err := uapi.GParm(d.fd, &p); err != nil {
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
			return media.Rational{}, false, nil
		}
		return media.Rational{}, false, d.wrap(err)
	}
	return rate(p.TimePerFrame), p.Capability&uapi.CapTimePerFrame != 0, nil
}

// SetFrameRate asks for a rate and returns the nearest that the driver took.
func (d *Device) SetFrameRate(t uapi.BufType, r media.Rational) (media.Rational, error) {
	p := uapi.StreamParm{Type: t, TimePerFrame: uapi.Fract{Num: uint32(r.Den), Den: uint32(r.Num)}}
	if err := uapi.SParm(d.fd, &p); err != nil {
		return media.Rational{}, d.wrap(err)
	}
	return rate(p.TimePerFrame), nil
}

// rate turns the time of a frame into frames per second.
func rate(interval uapi.Fract) media.Rational {
	if interval.Num == 0 || interval.Den == 0 {
		return media.Rational{}
	}
	return reduce(uint64(interval.Den), uint64(interval.Num))
}

func reduce(num, den uint64) media.Rational {
	a, b := num, den
	for b != 0 {
		a, b = b, a%b
	}
	if a == 0 {
		return media.Rational{}
	}
	return media.Rational{Num: int(num / a), Den: int(den / a)}
}

// maxEntries bounds what a driver may list: a faulty one never ends its lists.
const maxEntries = 1024

// pastEnd makes the end of a list, or a list that does not exist, no error.
func pastEnd(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}

// Crop sets the rectangle of a queue's pictures that is meant, from the top left corner: encoders round picture sizes up.
func (d *Device) Crop(t uapi.BufType, width, height int) error {
	return d.selectFrom(t, uapi.SelCrop, "crop to", width, height)
}

// Compose sets the rectangle, from the top left corner, of a buffer that the device fills: buffers may have more lines than pictures.
func (d *Device) Compose(t uapi.BufType, width, height int) error {
	return d.selectFrom(t, uapi.SelCompose, "fill", width, height)
}

func (d *Device) selectFrom(t uapi.BufType, target uint32, what string, width, height int) error {
	s := uapi.Selection{Type: t, Target: target, R: uapi.Rect{Width: uint32(width), Height: uint32(height)}}
	switch t { // the kernel wants the single-planar names here, and drivers before 4.13 only those
	case uapi.VideoOutputMplane:
		s.Type = uapi.VideoOutput
	case uapi.VideoCaptureMplane:
		s.Type = uapi.VideoCapture
	}
	if err := uapi.SSelection(d.fd, &s); err != nil {
		return d.wrap(err)
	}
	if s.R.Left != 0 || s.R.Top != 0 || int(s.R.Width) != width || int(s.R.Height) != height {
		return fmt.Errorf("%s: %s %dx%d: the driver makes it %+v", d.path, what, width, height, s.R)
	}
	return nil
}
