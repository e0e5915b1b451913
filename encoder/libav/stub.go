//go:build !cgo || nolibav

package libav

import (
	"fmt"

	"gantry/encoder"
	"gantry/media"
)

// Backends returns none: this build has no FFmpeg.
func Backends() []encoder.Backend { return nil }

// Missing says what this build lacks, empty when it has FFmpeg.
func Missing() string { return "built without FFmpeg (tag nolibav, or no cgo)" }

// A Decoder is what a build with FFmpeg has.
type Decoder struct{}

var errMissing = fmt.Errorf("%w: %s", encoder.ErrUnavailable, Missing())

// NewDecoder returns ErrUnavailable.
func NewDecoder(media.Codec) (*Decoder, error) { return nil, errMissing }

// Decode returns ErrUnavailable.
func (*Decoder) Decode(*media.Packet) ([]*media.Frame, error) { return nil, errMissing }

// Drain returns ErrUnavailable.
func (*Decoder) Drain() ([]*media.Frame, error) { return nil, errMissing }

// Close does nothing.
func (*Decoder) Close() error { return nil }

// NewConverter returns nil for pictures that encoders take as they are, else ErrUnavailable.
func NewConverter(in media.VideoFormat, _ bool) (encoder.Converter, error) {
	if in.FourCC == media.MJPG || in.Field != media.Progressive {
		return nil, fmt.Errorf("convert %v: %w", in, errMissing)
	}
	return nil, nil
}
