package alsa

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Config says what to capture. It is comparable.
type Config struct {
	// Card is "auto" for the first that captures (who knows of a video device puts its card there before Open), "hw:1,0" with the numbers of card and device, "hw:Loopback,0" with the card's
	// id, which stays the same, "usb:1-1.4" with the place on the USB bus, or "usb:534d:2109:SERIAL" of a USB device in any place.
	Card string `yaml:"card"`
	// Rate is in Hz; 0 takes 48000 where the card can, else what comes nearest.
	Rate int `yaml:"rate"`
	// Channels that the card shall capture; 0 takes two where the card can.
	Channels int `yaml:"channels"`
	// Format is S16, S24, S24_3 (three bytes), S32 or FLOAT; empty takes the widest that the card offers.
	Format string `yaml:"format"`
}

// Auto as Config.Card leaves the choice of the card.
const Auto = "auto"

// Default captures from the first card as it likes best.
func Default() Config { return Config{Card: Auto} }

// Validate returns all that is wrong with c, each error beginning with the key it is about.
func (c Config) Validate() error {
	var errs []error
	if _, err := parseName(c.Card); err != nil {
		errs = append(errs, fmt.Errorf("card: %w", err))
	}
	if c.Rate != 0 && (c.Rate < 8000 || c.Rate > 384000) {
		errs = append(errs, fmt.Errorf("rate: %d is not from 8000 to 384000 Hz, or 0 for the best that the card has", c.Rate))
	}
	if c.Channels < 0 || c.Channels > 32 {
		errs = append(errs, fmt.Errorf("channels: %d is not from 1 to 32, or 0 for two where the card can", c.Channels))
	}
	if c.Format != "" && layoutOf(c.Format) == nil {
		var names []string
		for _, l := range layouts {
			names = append(names, l.name)
		}
		slices.Sort(names)
		errs = append(errs, fmt.Errorf("format: %q is not one of %s", c.Format, strings.Join(names, ", ")))
	}
	return errors.Join(errs...)
}
