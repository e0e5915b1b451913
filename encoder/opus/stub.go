//go:build !cgo || !(amd64 || arm64 || arm)

package opus

import (
	"fmt"

	"gantry/encoder"
)

// New returns ErrUnavailable: this build has no Opus.
func New(Config) (encoder.AudioEncoder, error) {
	return nil, fmt.Errorf("opus: built without cgo or for a machine that the bundled library is not made for: %w",
		encoder.ErrUnavailable)
}
