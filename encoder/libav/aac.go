package libav

import (
	"fmt"

	"gantry/media"
)

// AACRate is the only rate of sound, in samples a second, that NewAAC's encoders take: nothing here resamples.
const AACRate = 48000

// aacProfile is the AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) of AAC-LC at 48 kHz in stereo.
const aacProfile = "1190"

// An AACConfig says how sound is coded as AAC-LC. It is comparable.
type AACConfig struct {
	Bitrate int `yaml:"bitrate" unit:"bit/s"` // on average
}

// DefaultAAC returns 160 kbit/s, what the platforms recommend at least.
func DefaultAAC() AACConfig { return AACConfig{Bitrate: 160_000} }

// Validate tells what cannot be, beginning with the key that it is about.
func (c AACConfig) Validate() error {
	if c.Bitrate < 32_000 || c.Bitrate > 320_000 {
		return fmt.Errorf("bitrate: %d is not from 32000 to 320000 bit/s", c.Bitrate)
	}
	return nil
}

// Track describes what an encoder for c makes.
func (c AACConfig) Track() media.Track {
	return media.Track{Codec: media.AAC, ClockRate: AACRate, Channels: 2, Profile: aacProfile, Bitrate: c.Bitrate}
}
