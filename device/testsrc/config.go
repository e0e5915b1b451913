package testsrc

import (
	"errors"
	"fmt"

	"gantry/device"
	"gantry/media"
)

// Config says which picture the Source draws. It is comparable.
type Config struct {
	Width  int            `yaml:"width"`  // pixels, even
	Height int            `yaml:"height"` // pixels, even
	Rate   media.Rational `yaml:"rate"`   // pictures per second
}

// Default is 1280x720 at 30 pictures a second.
func Default() Config { return Config{Width: 1280, Height: 720, Rate: media.Rational{Num: 30, Den: 1}} }

// Validate returns all that is wrong with c, each error beginning with the key it is about.
func (c Config) Validate() error {
	var errs []error
	if c.Width < 320 || c.Width > 7680 || c.Width%2 != 0 {
		errs = append(errs, fmt.Errorf("width: %d is not an even number from 320 to 7680", c.Width))
	}
	if c.Height < 180 || c.Height > 4320 || c.Height%2 != 0 {
		errs = append(errs, fmt.Errorf("height: %d is not an even number from 180 to 4320", c.Height))
	}
	if r := c.Rate.Float(); c.Rate.Num <= 0 || c.Rate.Den <= 0 || r < 1 || r > 240 {
		errs = append(errs, fmt.Errorf("rate: %v is not from 1 to 240 pictures a second", c.Rate))
	}
	return errors.Join(errs...)
}

// Format returns the format of the Source's pictures.
func (c Config) Format() media.VideoFormat {
	return media.VideoFormat{Width: c.Width, Height: c.Height, FourCC: media.YU12, Rate: c.Rate,
		Matrix: media.MatrixBT709, Range: media.RangeLimited}
}

func checkSize(f media.VideoFormat) error {
	if f.Width < 320 || f.Height < 180 || f.Width%2 != 0 || f.Height%2 != 0 {
		return fmt.Errorf("draw %dx%d: even sizes from 320x180: %w", f.Width, f.Height, device.ErrUnsupported)
	}
	return nil
}
