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
	video   map[string]media.Track // by rendition
	audio   []media.Track          // as which there is sound; none: there is none
	changed chan struct{}          // closed when the destinations must negotiate anew
}

func newTracks() *tracks {
	return &tracks{video: map[string]media.Track{}, changed: make(chan struct{})}
}

// setVideo says what a rendition is coded as.
func (t *tracks) setVideo(rid string, v media.Track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v.RID = rid
	if t.video[rid].Codec != v.Codec {
		t.change()
	}
	t.video[rid] = v // another size or profile is in the stream itself
}

// forget says that a rendition is no more.
func (t *tracks) forget(rid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.video, rid)
}

func (t *tracks) setAudio(a []media.Track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !alike(t.audio, a) {
		t.change()
	}
	t.audio = a
}

// alike tells whether b continues a without new negotiation.
func alike(a, b []media.Track) bool {
	return slices.EqualFunc(a, b, func(a, b media.Track) bool { return a.Codec == b.Codec && a.Channels == b.Channels })
}

func (t *tracks) change() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// offer returns the tracks with this rendition, nil while it is not coded, and a channel that is closed when some have changed.
// The first is the pictures'; the others are as what there is sound.
func (t *tracks) offer(rid string) ([]media.Track, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	video, ok := t.video[rid]
	if !ok {
		return nil, t.changed
	}
	return append([]media.Track{video}, t.audio...), t.changed
}

// wait is offer, once the rendition is coded.
func (t *tracks) wait(ctx context.Context, rid string) ([]media.Track, <-chan struct{}, error) {
	for {
		offered, changed := t.offer(rid)
		if offered != nil {
			return offered, changed, nil
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
