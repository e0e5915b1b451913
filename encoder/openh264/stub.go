//go:build !cgo || !(amd64 || arm64 || arm)

package openh264

import "gantry/encoder"

// Backends returns none: without cgo, or on a machine that the bundled library is not made for, there is no encoder.
func Backends() []encoder.Backend { return nil }

// Missing says what this build lacks, empty when it has the encoder.
func Missing() string {
	return "built without cgo, or for a machine that the bundled library is not made for"
}
