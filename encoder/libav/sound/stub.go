//go:build !cgo || nolibav

package sound

import (
	"errors"

	"gantry/media"
)

// Missing says what this build lacks, empty when it has FFmpeg.
func Missing() string { return "built without FFmpeg (tag nolibav, or no cgo)" }

// A Transcoder is what a build with FFmpeg has.
type Transcoder struct{}

// New says what is missing.
func New(media.Track, media.Codec) (*Transcoder, error) { return nil, errors.New(Missing()) }

// Track returns nothing.
func (*Transcoder) Track() media.Track { return media.Track{} }

// Convert does nothing.
func (*Transcoder) Convert(dst []*media.Packet, _ *media.Packet) []*media.Packet { return dst }

// Close does nothing.
func (*Transcoder) Close() error { return nil }
