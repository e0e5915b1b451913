//go:build !cgo || nolibav

package libav

import (
	"fmt"

	"gantry/encoder"
	"gantry/media"
)

// NewAAC returns ErrUnavailable: this build has no FFmpeg.
func NewAAC(AACConfig, media.AudioFormat) (encoder.AudioEncoder, error) {
	return nil, fmt.Errorf("AAC: %s: %w", Missing(), encoder.ErrUnavailable)
}
