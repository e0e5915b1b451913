// Package device says what an input is: a Source of pictures, an AudioSource of sound, and the errors by which the pipeline
// decides what to do next. Its sub-packages implement it, one a folder; only cmd/gantryd chooses among them.
//
// It knows no encoder, no destination and no configuration file.
package device

import (
	"context"
	"errors"
	"time"

	"gantry/media"
)

// The errors by which a caller of Source and AudioSource decides. Implementations wrap them with what to do about it.
var (
	// ErrNoSignal: the device is there and receives nothing usable. Show the slate, call Start again.
	ErrNoSignal = errors.New("no signal")
	// ErrNoLock, ErrOutOfRange and ErrEncrypted are kinds of ErrNoSignal: something is sent, but the receiver cannot follow it
	// (no stable timing), cannot take it (too large, too fast), or must not show it (HDCP, conditional access).
	ErrNoLock     error = &noSignal{"signal not stable"}
	ErrOutOfRange error = &noSignal{"signal out of range"}
	ErrEncrypted  error = &noSignal{"signal encrypted"}
	// ErrFormatChanged: the signal came with another size, rate or layout. Call Start again.
	ErrFormatChanged = errors.New("format changed")
	// ErrGone: the device vanished or broke. Close the Source and open it anew.
	ErrGone = errors.New("device gone")
	// ErrNotFound: there is no such device.
	ErrNotFound = errors.New("no such device")
	// ErrBusy: another program uses the device.
	ErrBusy = errors.New("device busy")
	// ErrUnsupported: the device cannot deliver what the configuration asks for.
	ErrUnsupported = errors.New("not supported by the device")
)

// noSignal is a kind of ErrNoSignal.
type noSignal struct{ text string }

func (e *noSignal) Error() string { return e.text }
func (e *noSignal) Unwrap() error { return ErrNoSignal }

// A Source is one video input. Start, Read and Close are called by one goroutine at a time.
type Source interface {
	// Start waits for a stable signal, begins to stream it, and returns its format. On a Source that streams already it first
	// stops; Frames of the earlier run stay valid until released. While there is no signal it may return ErrNoSignal with a
	// reason that it has not given before, so that it can be shown: call Start again, which goes on waiting.
	Start(ctx context.Context) (media.VideoFormat, error)
	// Read waits for the next picture; the caller owns it. After ErrNoSignal or ErrFormatChanged call Start again, after
	// ErrGone close and reopen. ctx ends the wait.
	Read(ctx context.Context) (*media.Frame, error)
	// Close stops streaming, waits a little for outstanding Frames and frees the device; a Frame that is still in use stays valid
	// until released. A second Close does nothing.
	Close() error
}

// An AudioSource is one audio input. Its methods follow the rules of Source.
type AudioSource interface {
	Start(ctx context.Context) (media.AudioFormat, error)
	// Read waits for the next run of samples, usually 10 or 20 ms.
	Read(ctx context.Context) (*media.Audio, error)
	Close() error
}

// SoundStats is what an AudioSource knows of its own clock.
type SoundStats struct {
	Drift    float64       // by how much the card's clock runs faster than CLOCK_MONOTONIC, in millionths; resampled away
	Offset   time.Duration // by how much the PTS are later than the samples were heard, as far as is known: the A/V offset
	Overruns uint64        // gaps because samples were not fetched in time
}

// A SoundReporter is an AudioSource that tells SoundStats. Any goroutine may ask.
type SoundReporter interface{ SoundStats() SoundStats }

// A Warner is a source of any kind that knows what a person should know of it although it works, as that it is plugged into a slow
// port. It is asked after Start; empty: nothing.
type Warner interface{ Warning() string }

// A PacketSource is an input that comes coded, as from a camera on the network. Its methods follow the rules of Source.
type PacketSource interface {
	// Start connects and returns the tracks, of access units. On a PacketSource that runs already it first disconnects.
	Start(ctx context.Context) ([]media.Track, error)
	// Read waits for the next access unit; Track is its index in what Start returned, PTS is CLOCK_MONOTONIC. Video begins with
	// a key frame. Pictures may come in decoding order with B-frames: then DTS differs from PTS.
	Read(ctx context.Context) (*media.Packet, error)
	Close() error
}
