// Package record keeps what a relay's streams show: each in a folder of its own, as internal/recording writes it. It lists and
// hands out the files, says what is missing between them, and takes that from the box, which has recorded it meanwhile.
//
// It is a subscriber like any other: what it is too slow for, it misses, and nobody else does. It knows no protocol by which
// streams come, and no picture.
package record

import (
	"errors"
	"fmt"
	"slices"

	"gantry/internal/recording"
	"gantry/relay"
)

// Config says where to, how much, and of what.
type Config struct {
	recording.Config `yaml:",inline"` // all streams together; without Dir nothing is recorded

	Streams []string `yaml:"streams"` // names; empty: all
}

// Default returns files of ten minutes, 20 GB together, and no folder.
func Default() Config { return Config{Config: recording.Default()} }

// On tells whether anything is recorded.
func (c Config) On() bool { return c.Dir != "" }

// Validate names every key that is wrong.
func (c Config) Validate() error {
	if !c.On() {
		return nil
	}
	errs := []error{c.Config.Validate()}
	for i, name := range c.Streams {
		if !relay.ValidName(name) {
			errs = append(errs, fmt.Errorf("streams[%d]: %w", i, relay.ErrName))
		}
	}
	return errors.Join(errs...)
}

func (c Config) wants(stream string) bool {
	return len(c.Streams) == 0 || slices.Contains(c.Streams, stream)
}
