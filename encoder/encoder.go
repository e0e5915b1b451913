// Package encoder says what an encoder is, what can be asked of it, and how a machine's encoders are tried out and ranked.
// Its sub-packages implement it, one library or kernel interface a folder; only cmd/gantryd chooses among them.
//
// It knows no device, no destination and no configuration file.
package encoder

import (
	"context"
	"errors"
	"time"

	"gantry/media"
)

var (
	// ErrRestart: Apply cannot change this while running and has changed nothing. Open a new Encoder.
	ErrRestart = errors.New("needs a new encoder")
	// ErrUnavailable: this machine or build has no such encoder.
	ErrUnavailable = errors.New("encoder not available")
)

// Params are what a video encoder is asked for. The value is comparable.
type Params struct {
	Codec   media.Codec
	Width   int           // coded size in pixels; 0: as the source
	Height  int           // 0: as the source
	Bitrate int           // bit/s on average over half a second
	GOP     time.Duration // between key frames that nobody asked for; 0: only on demand
	Preset  string        // the library's own speed name ("veryfast"); empty: the fastest that looks right
	Profile string        // "baseline", "main", "high", "main10"; empty: H.264 as browsers decode it everywhere, H.265 as deep as the source
	Threads int           // 0: as few as keep up; a picture stays one slice, so each further one may delay by a picture
}

// An Encoder codes pictures of one format into Annex B access units, without B-frames: packets leave in display order.
// Encode and Read may run in two goroutines; Apply and Close in any.
type Encoder interface {
	// Track describes what Read returns; size and profile are known from the start.
	Track() media.Track
	// Encode codes f, which is lent for the call; with key as a key frame at exactly this picture. It waits only for an input
	// slot. A picture of another format than the Encoder was opened for is an error.
	Encode(ctx context.Context, f *media.Frame, key bool) error
	// Read returns the next access unit as one Packet (Start and End set), waiting for it; io.EOF after Close has drained.
	Read(ctx context.Context) (*media.Packet, error)
	// Apply changes bitrate and GOP from the next picture on, or returns ErrRestart and changes nothing.
	Apply(p Params) error
	// Close lets Read drain what was encoded and frees the encoder once it has, or at once when nobody reads within a second.
	Close() error
}

// A CopyCounter is an Encoder that tells how its pictures reached it. Copies may be called at any time, also after Close.
type CopyCounter interface {
	// Copies returns how many pictures the encoder read where they lay, and how many were copied, converted or uploaded for it.
	Copies() (inPlace, copied uint64)
}

// A Converter makes pictures that encoders take, of those that a device delivers: it decodes JPEGs, or deinterlaces. One goroutine
// uses it.
type Converter interface {
	// Format is that of the pictures it makes.
	Format() media.VideoFormat
	// Convert reads f, which is lent, and returns pictures that the caller owns, of f or of the one before: none while it waits
	// for the next, two where each field becomes one. An error is about f alone.
	Convert(f *media.Frame) ([]*media.Frame, error)
	Close() error
}

// An AudioEncoder codes sound. One goroutine uses it.
type AudioEncoder interface {
	Track() media.Track
	// Encode takes any number of samples and returns the packets that they complete, stamped with their own PTS. A jump of
	// more than 20 ms in a's PTS restarts the timeline.
	Encode(a *media.Audio) ([]*media.Packet, error)
	// SetBitrate changes the rate in bit/s from the next packet on.
	SetBitrate(bps int) error
	Close() error
}

// A Backend is one encoder that a build contains, for one codec.
type Backend struct {
	Name     string // as the configuration names it: "libx264", "openh264", "h264_vaapi"
	Codec    media.Codec
	Hardware bool
	// Inputs are the pixel layouts that Open takes, the cheapest first.
	Inputs []media.FourCC
	// Open returns an Encoder for pictures of format in. ErrUnavailable, wrapped with the reason, when this machine cannot.
	Open func(ctx context.Context, in media.VideoFormat, p Params) (Encoder, error)
}
