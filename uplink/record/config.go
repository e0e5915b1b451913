// Package record writes a programme into a folder on the box's own disk: files of fragmented MP4, split by time and by size at
// key frames, of which the oldest go when the budget is used up. internal/recording makes them.
//
// It does not know what a recording is for.
package record

import (
	"errors"
	"fmt"

	"gantry/internal/recording"
	"gantry/media"
)

// Config says where to, and how much. It is comparable.
type Config struct {
	recording.Config `yaml:",inline"`

	Sound string `yaml:"sound"` // the codec that is liked best, AAC or Opus
}

// The codecs of sound.
const (
	AAC  = "aac"  // what every player takes
	Opus = "opus" // what goes out over WHIP: for a recording that a relay's is healed with
)

// Default returns files of ten minutes, 20 GB together, with AAC.
func Default() Config { return Config{Config: recording.Default(), Sound: AAC} }

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var err error
	if c.Sound != AAC && c.Sound != Opus {
		err = fmt.Errorf("sound: %q is neither %s nor %s", c.Sound, AAC, Opus)
	}
	return errors.Join(c.Config.Validate(), err)
}

// Carries are the codecs that can be recorded; of several for sound, the first that there is.
func (c Config) Carries() []media.Codec {
	if c.Sound == Opus {
		return []media.Codec{media.H264, media.H265, media.Opus, media.AAC}
	}
	return recording.Carries
}
