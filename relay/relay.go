// Package relay joins publishers to subscribers by stream name: the Hub, its Streams, a Publication for each publisher and a
// Subscription for each consumer. Ingest servers (relay/ingest/*) publish, egress servers (relay/egress/*) subscribe.
//
// A Stream outlives its publishers: one that returns, or a backup that takes over, continues the same timeline at a key
// frame, and no subscriber is disconnected. The package knows no protocol, no HTTP and no token.
package relay

import (
	"errors"
	"time"

	"gantry/media"
	"gantry/media/packing"
)

var (
	// ErrNoStream: nobody publishes under this name now.
	ErrNoStream = errors.New("stream is not live")
	// ErrNoPublisher: the stream has no publisher of that id.
	ErrNoPublisher = errors.New("the stream has no such publisher")
	// ErrReplaced: a newer publisher of the same priority has taken this one's place.
	ErrReplaced = errors.New("replaced by a newer publisher")
	// ErrPacking: no track of the stream is as the subscriber wants it, nor can be converted to that.
	ErrPacking = errors.New("no track can be had as wanted")
	// ErrTracksChanged: the stream goes on with other codecs; subscribe anew.
	ErrTracksChanged = errors.New("the stream's tracks changed")
	// ErrEnded: the stream's publisher left and did not return in time, or the Hub closed.
	ErrEnded = errors.New("stream ended")
	// ErrName: a stream name has 1 to 128 characters out of letters, digits and - _ . / without empty or dotted path parts.
	ErrName = errors.New("a stream name has 1 to 128 letters, digits, '-', '_', '.' or '/', and no empty, '.' or '..' part")
	// ErrTracks: a publisher has 1 to 16 tracks with known codecs.
	ErrTracks = errors.New("a publisher has 1 to 16 tracks of known codecs")
)

// Config is the Hub's. The value is comparable.
type Config struct {
	Hold    time.Duration // how long a Stream waits for a publisher to return before it ends
	Silence time.Duration // without a packet for so long, a waiting publisher takes over
	Queue   time.Duration // media time a Subscription may lag behind before it drops to a key frame
}

// Default returns the configuration that suits contribution over the open internet.
func Default() Config {
	return Config{Hold: 30 * time.Second, Silence: time.Second, Queue: time.Second}
}

// Validate names the key that is out of range.
func (c Config) Validate() error {
	switch {
	case c.Hold < 0 || c.Hold > time.Hour:
		return errors.New("hold: want 0s to 1h")
	case c.Silence < 100*time.Millisecond || c.Silence > time.Minute:
		return errors.New("silence: want 100ms to 1m")
	case c.Queue < 100*time.Millisecond || c.Queue > 10*time.Second:
		return errors.New("queue: want 100ms to 10s")
	}
	return nil
}

// A Publisher is what an ingest server says of who publishes.
type Publisher struct {
	Tracks   []media.Track
	Protocol string // "whip", "srt", "rtmp"
	Remote   string // address and port
	Priority int    // the highest live one is forwarded; among equals the newest
	Layer    string // of which layer of the stream these are the pictures; relay/ingest makes one Publisher of several, for the Hub
	// Feedback takes what subscribers want of the publisher, in terms of its own Tracks. It is called with the Stream locked: it must not block or call back.
	Feedback func(media.Feedback)
}

// Want is the form in which a subscriber takes a stream.
type Want struct {
	Packing media.Packing
	Audio   media.Codec // sound is transcoded to it where it differs; NoCodec takes it as it is published
	NoSlate bool        // only what was published, with gaps where nothing was
}

// A Transcoder returns a converter of the access units of an audio track into those of another codec, and the track that
// comes of it. Where the converter is an io.Closer it is closed after its last packet.
type Transcoder func(from media.Track, to media.Codec) (media.Track, packing.Converter, error)

// ValidName tells whether a stream may be called name.
func ValidName(name string) bool {
	if len(name) == 0 || len(name) > 128 {
		return false
	}
	part := 0 // start of the path part
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '/' {
			if p := name[part:i]; p == "" || p == "." || p == ".." {
				return false
			}
			part = i + 1
			continue
		}
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
