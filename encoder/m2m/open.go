package m2m

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"gantry/encoder"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// inputs are the layouts that drivers take, by the kernel's codes: planes in one memory, or in one each.
var inputs = []struct {
	layout media.FourCC
	codes  []media.FourCC
}{
	{media.NV12, []media.FourCC{media.NV12, media.NewFourCC("NM12")}},
	{media.YU12, []media.FourCC{media.YU12, media.NewFourCC("YM12")}},
	{media.YUYV, []media.FourCC{media.YUYV}},
	{media.UYVY, []media.FourCC{media.UYVY}},
	{media.NV16, []media.FourCC{media.NV16, media.NewFourCC("NM16")}},
	{media.NV24, []media.FourCC{media.NV24}},
	{media.RGB3, []media.FourCC{media.RGB3}},
	{media.BGR3, []media.FourCC{media.BGR3}},
	{media.P010, []media.FourCC{media.P010}},
}

// Backends returns the kernel's encoders of H.264 and H.265. Whether this machine has one, and what it takes, Open finds out.
func Backends() []encoder.Backend {
	return []encoder.Backend{backend("v4l2_h264", h264Coding), backend("v4l2_h265", h265Coding)}
}

func backend(name string, k coding) encoder.Backend {
	b := encoder.Backend{Name: name, Codec: k.codec, Hardware: true}
	for _, i := range inputs {
		if k.codec == media.H264 && i.layout.Depth() > 8 {
			continue // its profile of ten bits is decoded by next to nobody
		}
		b.Inputs = append(b.Inputs, i.layout)
	}
	b.Open = func(ctx context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
		e, err := open(ctx, k, in, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return e, nil
	}
	return b
}

// open opens the first node that codes such pictures.
func open(ctx context.Context, k coding, in media.VideoFormat, p encoder.Params) (*Encoder, error) {
	want, err := p.Resolve(in)
	if err != nil {
		return nil, err
	}
	if in.Width-want.Width > 1 || in.Width < want.Width || in.Height-want.Height > 1 || in.Height < want.Height {
		return nil, fmt.Errorf("it does not scale %dx%d to %dx%d: %w", in.Width, in.Height, want.Width, want.Height, encoder.ErrUnavailable)
	}
	nodes, _ := filepath.Glob("/dev/video*")
	var errs []error
	for _, path := range nodes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dev, err := kernel.Open(path)
		if err != nil {
			continue
		}
		code, err := match(dev, k, in)
		if code == 0 {
			dev.Close()
			if err != nil {
				errs = append(errs, err)
			}
			continue
		}
		e, err := newEncoder(dev, dev, k, code, in, want)
		if err == nil {
			return e, nil
		}
		errs = append(errs, fmt.Errorf("%s (%s): %w", path, dev.Card(), err))
		dev.Close()
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("%w: this machine has no node that makes %v", encoder.ErrUnavailable, k.fourcc)
	}
	return nil, fmt.Errorf("%w: %w", encoder.ErrUnavailable, errors.Join(errs...))
}

// match returns the kernel's code for pictures of in, if the node makes k of them.
func match(dev *kernel.Device, k coding, in media.VideoFormat) (media.FourCC, error) {
	if !dev.Mem2Mem() || dev.Caps()&uapi.CapStreaming == 0 {
		return 0, nil
	}
	coded, err := dev.Formats(dev.CaptureType())
	if err != nil || !slices.ContainsFunc(coded, func(f kernel.FormatInfo) bool { return f.FourCC == k.fourcc }) {
		return 0, nil
	}
	raw, err := dev.Formats(dev.OutputType())
	if err != nil {
		return 0, err
	}
	for _, i := range inputs {
		for _, code := range i.codes {
			if i.layout == in.FourCC && slices.ContainsFunc(raw, func(f kernel.FormatInfo) bool { return f.FourCC == code }) {
				return code, nil
			}
		}
	}
	return 0, fmt.Errorf("%s (%s) takes no %v", dev.Path(), dev.Card(), in.FourCC)
}
