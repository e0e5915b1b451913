package pipeline

import (
	"context"
	"sync"

	"gantry/media"
)

// The places of the tracks in a Program.
const (
	videoTrack = 0
	audioTrack = 1
)

// tracks says what the destinations are offered. It is complete once an encoder has been opened.
type tracks struct {
	mu      sync.Mutex
	video   media.Track
	audio   media.Track   // without a codec: there is no sound
	changed chan struct{} // closed when the destinations must negotiate anew
}

func newTracks() *tracks { return &tracks{changed: make(chan struct{})} }

func (t *tracks) setVideo(v media.Track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.video.Codec != v.Codec {
		t.change()
	}
	t.video = v // another size or profile is in the stream itself
}

func (t *tracks) setAudio(a media.Track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.audio.Codec != a.Codec || t.audio.Channels != a.Channels {
		t.change()
	}
	t.audio = a
}

func (t *tracks) change() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// wait returns the tracks, once they are known, and a channel that is closed when they are no longer right.
func (t *tracks) wait(ctx context.Context) ([]media.Track, <-chan struct{}, error) {
	for {
		t.mu.Lock()
		video, audio, changed := t.video, t.audio, t.changed
		t.mu.Unlock()
		if video.Codec != media.NoCodec {
			list := []media.Track{video}
			if audio.Codec != media.NoCodec {
				list = append(list, audio)
			}
			return list, changed, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (t *tracks) get() (video, audio media.Track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.video, t.audio
}
