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

// longestWait is how far apart two pictures of one are shown at most, whatever their times say.
const longestWait = 50 * time.Millisecond

// Converted returns a Source of src's pictures as open's Converter makes them; where open returns nil for a format, as they are.
// A picture that cannot be converted is left out, and so counts as lost.
func Converted(src device.Source, open func(media.VideoFormat) (encoder.Converter, error)) device.Source {
	return &converted{Source: src, open: open}
}

type converted struct {
	device.Source
	open    func(media.VideoFormat) (encoder.Converter, error)
	convert encoder.Converter // nil: the pictures are right as they are
	done    []*media.Frame    // converted, for the next Read
	shift   time.Duration     // from their PTS to when they are due
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
	for _, f := range c.done {
		f.Release()
	}
	c.done = nil
	if c.convert == nil {
		return nil
	}
	err := c.convert.Close()
	c.convert = nil
	return err
}

func (c *converted) Read(ctx context.Context) (*media.Frame, error) {
	for {
		if len(c.done) > 0 {
			return c.next(ctx)
		}
		f, err := c.Source.Read(ctx)
		if err != nil || c.convert == nil {
			return f, err
		}
		done, err := c.convert.Convert(f)
		f.Release()
		now := clock.Now()
		switch {
		case err != nil && now-c.good > unusable:
			return nil, fmt.Errorf("%w: no picture of the last %v was whole: %w", device.ErrGone, unusable, err)
		case err != nil:
			continue
		}
		if c.good, c.done = now, done; len(done) > 0 {
			c.shift = now - done[0].PTS
		}
	}
}

// next waits until the next converted picture is due: two that came at once would replace each other before the encoder.
func (c *converted) next(ctx context.Context) (*media.Frame, error) {
	f := c.done[0]
	if wait := f.PTS + c.shift - clock.Now(); wait > 0 {
		timer := time.NewTimer(min(wait, longestWait))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.done = c.done[1:]
	return f, nil
}

// Warning implements device.Warner.
func (c *converted) Warning() string {
	if w, ok := c.Source.(device.Warner); ok {
		return w.Warning()
	}
	return ""
}

func (c *converted) Close() error { return errors.Join(c.end(), c.Source.Close()) }
