//go:build !cgo || nolibav

package libav

import "gantry/media"

// NewLiveDecoder returns ErrUnavailable.
func NewLiveDecoder(media.Codec) (*Decoder, error) { return nil, errMissing }
