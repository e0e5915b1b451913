package pipeline

import (
	"context"
	"time"

	"gantry/encoder"
	"gantry/media"
)

// fields makes whole pictures of interlaced ones that were decoded. From the first interlaced one on it converts all: those that are
// marked as progressive between them come out as they are, or nearly. One goroutine uses it.
type fields struct {
	open func(media.VideoFormat) (encoder.Converter, error)

	converter encoder.Converter // nil: none was interlaced yet
	in        media.VideoFormat
}

// convert takes over f and hands on what becomes of it, two pictures of two fields as far apart as they are to be shown: what comes at once
// would be replaced before the encoder takes it.
func (c *fields) convert(ctx context.Context, f *media.Frame, show func(*media.Frame)) error {
	if c.open == nil || f.Format.Field == media.Progressive && c.converter == nil {
		show(f)
		return nil
	}
	defer f.Release()
	if c.converter != nil && f.Format.Field == media.Progressive {
		f.Format.Field = c.in.Field
	}
	if c.converter == nil || f.Format != c.in {
		if err := c.close(); err != nil {
			return err
		}
		var err error
		if c.converter, err = c.open(f.Format); err != nil {
			return err
		}
		c.in = f.Format
	}
	done, err := c.converter.Convert(f)
	if err != nil {
		return err
	}
	for i, p := range done {
		if i > 0 && !wait(ctx, min(p.PTS-done[i-1].PTS, longestWait)) {
			for _, p := range done[i:] {
				p.Release()
			}
			return nil
		}
		show(p)
	}
	return nil
}

// wait tells whether d has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *fields) close() error {
	if c.converter == nil {
		return nil
	}
	err := c.converter.Close()
	c.converter = nil
	return err
}
