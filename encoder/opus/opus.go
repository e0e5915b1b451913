// Package opus codes sound as Opus (RFC 6716) with the library that pion/mediadevices brings along, so that it works where
// nothing is installed. It cuts sound of any chunk size into packets of 20 ms and stamps them.
//
// It takes the rates that Opus itself takes (8, 12, 16, 24 and 48 kHz), one or two channels, and always makes stereo at
// 48 kHz, which is the only way WebRTC announces Opus (RFC 7587 §7). It does not resample: other rates are refused. The
// bundled library's wrapper does not offer in-band FEC, so packets carry none.
package opus

import (
	"errors"
	"fmt"
	"time"

	"gantry/media"
)

// Limits of Config.Bitrate in bit/s. The wrapper's packets end at 1024 bytes.
const (
	minBitrate = 6_000
	maxBitrate = 320_000
)

const (
	channels  = 2
	clockRate = 48000
	// frame is what one packet plays.
	frame = 20 * time.Millisecond
	// tolerance is how far a's PTS may be from where the samples before it ended: drift of the sound card's clock and
	// rounding, until the timeline is set anew.
	tolerance = 20 * time.Millisecond
)

// Config is what the encoder is asked for. It is comparable.
type Config struct {
	Bitrate int `yaml:"bitrate" unit:"bit/s"` // on average
}

// Default returns 128 kbit/s: transparent for stereo music.
func Default() Config { return Config{Bitrate: 128_000} }

// Validate tells what cannot be, beginning with the key that it is about.
func (c Config) Validate() error {
	if c.Bitrate < minBitrate || c.Bitrate > maxBitrate {
		return fmt.Errorf("bitrate: %d is not from %d to %d bit/s", c.Bitrate, minBitrate, maxBitrate)
	}
	return nil
}

func track(bitrate int) media.Track {
	return media.Track{Codec: media.Opus, ClockRate: clockRate, Channels: channels, Bitrate: bitrate}
}

// takes tells whether sound of format f can be coded.
func takes(f media.AudioFormat) error {
	switch f.Rate {
	case 8000, 12000, 16000, 24000, 48000:
	default:
		return fmt.Errorf("sound at %d Hz: opus takes 8000, 12000, 16000, 24000 or 48000", f.Rate)
	}
	if f.Channels != 1 && f.Channels != 2 {
		return fmt.Errorf("sound with %d channels: opus takes 1 or 2", f.Channels)
	}
	return nil
}

var errClosed = errors.New("encoder is closed")
