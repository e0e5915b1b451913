package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/media"
)

// unusable is how long a source may deliver nothing but pictures that cannot be converted.
const unusable = 2 * time.Second

// Converted returns a Source of src's pictures as open's Converter makes them; where open returns nil for a format, as they are.
// A picture that cannot be converted is left out, and so counts as lost.
func Converted(src device.Source, open func(media.VideoFormat) (encoder.Converter, error)) device.Source {
	return &converted{Source: src, open: open}
}

type converted struct {
	device.Source
	open    func(media.VideoFormat) (encoder.Converter, error)
	convert encoder.Converter // nil: the pictures are right as they are
	good    time.Duration     // when the last one could be converted
}

func (c *converted) Start(ctx context.Context) (media.VideoFormat, error) {
	format, err := c.Source.Start(ctx)
	if err != nil {
		return format, err
	}
	if err := c.end(); err != nil {
		return format, err
	}
	convert, err := c.open(format)
	if err != nil {
		return format, fmt.Errorf("%w: %w", device.ErrUnsupported, err)
	}
	if convert == nil {
		return format, nil
	}
	c.convert, c.good = convert, clock.Now()
	return convert.Format(), nil
}

func (c *converted) end() error {
	if c.convert == nil {
		return nil
	}
	err := c.convert.Close()
	c.convert = nil
	return err
}

func (c *converted) Read(ctx context.Context) (*media.Frame, error) {
	for {
		f, err := c.Source.Read(ctx)
		if err != nil || c.convert == nil {
			return f, err
		}
		out, err := c.convert.Convert(f)
		f.Release()
		now := clock.Now()
		switch {
		case err != nil && now-c.good > unusable:
			return nil, fmt.Errorf("%w: no picture of the last %v was whole: %w", device.ErrGone, unusable, err)
		case err != nil:
			continue
		}
		c.good = now
		if out != nil {
			return out, nil
		}
	}
}

func (c *converted) Close() error { return errors.Join(c.end(), c.Source.Close()) }
