// Package sound turns coded sound of one codec into that of another, AAC ↔ Opus, with FFmpeg's libavcodec and libswresample
// (5.1 and later). What comes out is stereo at 48 kHz on the timeline of what goes in: it follows a publisher whose sound card
// runs a little fast or slow by resampling, and begins anew after a gap.
//
// It knows no stream and no transport. A build with the tag nolibav or without cgo has it all and can nothing: Missing says
// why.
package sound

import "gantry/media"

const (
	rate = 48000
	// bitrate is transparent for stereo music in both codecs.
	bitrate = 128_000
)

// output is the track that comes of a transcoder to c; AAC has its AudioSpecificConfig in Profile besides.
func output(c media.Codec) media.Track {
	return media.Track{Codec: c, ClockRate: rate, Channels: 2, Bitrate: bitrate}
}
