//go:build !cgo || nolibav

package libav

import "gantry/encoder"

// Backends returns none: this build has no FFmpeg.
func Backends() []encoder.Backend { return nil }

// Missing says what this build lacks, empty when it has FFmpeg.
func Missing() string { return "built without FFmpeg (tag nolibav, or no cgo)" }
