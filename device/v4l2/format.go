package v4l2

import (
	"fmt"
	"slices"
	"strings"

	"gantry/device"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// setFormat sets the configured layout and size, and refuses what the driver makes of them if it is something else.
func (s *Source) setFormat(sig signal) (layout, kernel.Format, error) {
	current, err := s.dev.Format(s.queue)
	if err != nil {
		return layout{}, current, err
	}
	width, height, err := s.sizeOnTheBus()
	if err != nil {
		return layout{}, current, err
	}
	l, err := s.chooseLayout(current)
	if err != nil {
		return layout{}, current, err
	}
	want := kernel.Format{Width: current.Width, Height: current.Height, FourCC: l.code, Field: uapi.FieldAny}
	switch {
	case s.cfg.Width != 0:
		want.Width, want.Height = s.cfg.Width, s.cfg.Height
	case sig.digital:
		want.Width, want.Height = int(sig.timings.Width), int(sig.timings.Height)
	case width != 0:
		want.Width, want.Height = width, height
	}
	got, err := s.dev.SetFormat(s.queue, want)
	if err == nil && fieldwise(got.Field) { // one field a buffer: ask for whole pictures
		want.Field = uapi.FieldInterlaced
		got, err = s.dev.SetFormat(s.queue, want)
	}
	if err == nil && got.Field == uapi.FieldAlternate { // it has fields only, of half the lines
		want.Field, want.Height = uapi.FieldAlternate, want.Height/2
		got, err = s.dev.SetFormat(s.queue, want)
	}
	switch {
	case err != nil:
		return layout{}, got, fmt.Errorf("set format %v: %w", want, err)
	case got.FourCC != l.code:
		return layout{}, got, fmt.Errorf("%s: format %v: %w: the driver takes %v instead", s.dev.Path(), want, device.ErrUnsupported, got)
	case s.cfg.Width != 0 && (got.Width != want.Width || got.Height != want.Height):
		return layout{}, got, fmt.Errorf("%s: size %dx%d: %w: %s", s.dev.Path(), want.Width, want.Height, device.ErrUnsupported, s.sizes(sig, l))
	case fieldwise(got.Field) && (got.Field != uapi.FieldAlternate || got.Height != want.Height || l.coded()):
		return layout{}, got, fmt.Errorf("%s: %w: it delivers single fields of interlaced pictures", s.dev.Path(), device.ErrUnsupported)
	}
	return l, got, nil
}

func fieldwise(f uapi.Field) bool {
	return f == uapi.FieldAlternate || f == uapi.FieldTop || f == uapi.FieldBottom || f == uapi.FieldSeqTB || f == uapi.FieldSeqBT
}

// chooseLayout returns the configured layout, else the current one if we know it, else the best one offered.
func (s *Source) chooseLayout(current kernel.Format) (layout, error) {
	offered, err := s.dev.Formats(s.queue)
	if err != nil {
		return layout{}, err
	}
	has := func(code media.FourCC) bool {
		for _, f := range offered {
			if f.FourCC == code {
				return true
			}
		}
		return false
	}
	if s.cfg.Format != "" {
		for _, l := range append(layouts[:len(layouts):len(layouts)], passed) { // NV12 also finds NM12
			if (l.code.String() == s.cfg.Format || l.as.String() == s.cfg.Format) && has(l.code) {
				return l, nil
			}
		}
		return layout{}, fmt.Errorf("%s: format %s: %w: it offers %s", s.dev.Path(), s.cfg.Format, device.ErrUnsupported, codes(offered))
	}
	var known []layout
	if l, ok := layoutOfCode(current.FourCC); ok && l.as.Depth() == 8 {
		known = append(known, l)
	}
	for _, l := range layouts {
		if has(l.code) && !slices.Contains(known, l) {
			known = append(known, l)
		}
	}
	for _, l := range known {
		if s.fits(l) {
			return l, nil
		}
	}
	if len(known) > 0 {
		return known[0], nil
	}
	return layout{}, fmt.Errorf("%s: %w: none of its formats is known here: %s", s.dev.Path(), device.ErrUnsupported, codes(offered))
}

// fits reports whether the driver does not rule out a layout in the configured size and rate: webcams have their large pictures, or
// more than a few of them a second, as JPEGs only.
func (s *Source) fits(l layout) bool {
	w, h := s.cfg.Width, s.cfg.Height
	if w == 0 {
		return true
	}
	sizes, err := s.dev.FrameSizes(l.code)
	if err == nil && len(sizes) > 0 && !slices.ContainsFunc(sizes, func(r kernel.SizeRange) bool {
		return w >= r.MinWidth && w <= r.MaxWidth && h >= r.MinHeight && h <= r.MaxHeight
	}) {
		return false
	}
	if s.cfg.Rate.Num == 0 {
		return true
	}
	rates, err := s.dev.FrameRates(l.code, w, h)
	return err != nil || len(rates) == 0 || slices.ContainsFunc(rates, func(r media.Rational) bool {
		return sameRate(r, s.cfg.Rate) || r.Float() > s.cfg.Rate.Float()
	})
}

func codes(list []kernel.FormatInfo) string {
	var names []string
	for _, f := range list {
		if _, known := layoutOfCode(f.FourCC); known || len(list) <= 16 {
			names = append(names, f.FourCC.String())
		}
	}
	if len(names) < len(list) {
		names = append(names, "and others that Gantry does not take")
	}
	return strings.Join(names, ", ")
}

// sizes says which sizes there are instead.
func (s *Source) sizes(sig signal, l layout) string {
	if sig.digital {
		return fmt.Sprintf("the signal is %v; leave width and height at 0 to follow it", sig)
	}
	list, _ := s.dev.FrameSizes(l.code)
	var names []string
	for _, r := range list {
		name := fmt.Sprintf("%dx%d", r.MinWidth, r.MinHeight)
		if r.MinWidth != r.MaxWidth || r.MinHeight != r.MaxHeight {
			name += fmt.Sprintf(" to %dx%d", r.MaxWidth, r.MaxHeight)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "the driver does not say which sizes it has"
	}
	return "it offers " + strings.Join(names, ", ")
}

// setRate sets the configured rate and returns the one in effect, 0/0 if nobody knows.
func (s *Source) setRate(sig signal, l layout, f kernel.Format) (media.Rational, error) {
	current, adjustable, err := s.dev.FrameRate(s.queue)
	if err != nil {
		return media.Rational{}, err
	}
	if sig.digital {
		current = kernel.TimingsRate(sig.timings)
	}
	if s.cfg.Rate.Num == 0 || sameRate(current, s.cfg.Rate) {
		return current, nil
	}
	if sig.digital {
		return media.Rational{}, fmt.Errorf("%s: rate %v: %w: the signal is %v; leave rate at 0 to follow it",
			s.dev.Path(), s.cfg.Rate, device.ErrUnsupported, sig)
	}
	if adjustable {
		if current, err = s.dev.SetFrameRate(s.queue, s.cfg.Rate); err != nil {
			return media.Rational{}, fmt.Errorf("set rate %v: %w", s.cfg.Rate, err)
		}
	}
	if !sameRate(current, s.cfg.Rate) {
		rates, _ := s.dev.FrameRates(l.code, f.Width, f.Height)
		return media.Rational{}, fmt.Errorf("%s: rate %v at %dx%d: %w: it offers %v",
			s.dev.Path(), s.cfg.Rate, f.Width, f.Height, device.ErrUnsupported, rates)
	}
	return current, nil
}

// sameRate reports whether two rates are within 0.05 %: drivers write 29.97 in several ways.
func sameRate(a, b media.Rational) bool {
	deviation := a.Float()/b.Float() - 1
	return deviation > -0.0005 && deviation < 0.0005
}
