package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"gantry/media"
	"gantry/uplink"
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
	audio   []media.Track // as which there is sound; none: there is none
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

func (t *tracks) setAudio(a []media.Track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.EqualFunc(t.audio, a, func(a, b media.Track) bool { return a.Codec == b.Codec && a.Channels == b.Channels }) {
		t.change()
	}
	t.audio = a
}

func (t *tracks) change() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// wait returns the tracks, once they are known, and a channel that is closed when they are no longer right. The first is the
// pictures'; the others are as what there is sound.
func (t *tracks) wait(ctx context.Context) ([]media.Track, <-chan struct{}, error) {
	for {
		t.mu.Lock()
		video, audio, changed := t.video, t.audio, t.changed
		t.mu.Unlock()
		if video.Codec != media.NoCodec {
			return append([]media.Track{video}, audio...), changed, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// choose returns which of the offered tracks a destination gets: the pictures, and the sound that it likes best. silent says
// why it gets none where there is some.
func choose(offered []media.Track, carries []media.Codec) (chosen []media.Track, silent, err error) {
	video, audio := offered[0], offered[1:]
	if carries == nil {
		return offered[:min(len(offered), 2)], nil, nil
	}
	if !slices.Contains(carries, video.Codec) {
		return nil, nil, fmt.Errorf("pictures are coded as %v, and it takes %s: %w", video.Codec, list(carries), uplink.ErrRefused)
	}
	for _, c := range carries {
		if i := slices.IndexFunc(audio, func(t media.Track) bool { return t.Codec == c }); i >= 0 {
			return []media.Track{video, audio[i]}, nil, nil
		}
	}
	if len(audio) > 0 {
		var have []media.Codec
		for _, t := range audio {
			have = append(have, t.Codec)
		}
		silent = fmt.Errorf("it takes %s, and there is sound as %s", list(carries), list(have))
	}
	return []media.Track{video}, silent, nil
}

func list(codecs []media.Codec) string {
	names := make([]string, len(codecs))
	for i, c := range codecs {
		names[i] = c.String()
	}
	return strings.Join(names, ", ")
}
