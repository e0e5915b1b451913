package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gantry/media"
	"gantry/uplink"
)

// The places of the tracks in a Program of one rendition; what a destination of several gets, fanout puts in its place.
const (
	videoTrack = 0
	audioTrack = 1
)

// layersTime is how long a destination of several renditions waits for those that are not coded yet, once one of them is.
const layersTime = 3 * time.Second

// tracks says what the destinations are offered. It is complete once an encoder has been opened.
type tracks struct {
	mu      sync.Mutex
	video   map[string]media.Track // by rendition
	audio   []media.Track          // as which there is sound; none: there is none
	changed chan struct{}          // closed when the destinations must negotiate anew
	source  ownTrack
	routes  map[string]route // by destination that is running
	widths  map[string]width // of their paths
	looks   int              // others who need pictures
}

func newTracks() *tracks {
	return &tracks{video: map[string]media.Track{}, changed: make(chan struct{}), routes: map[string]route{}, widths: map[string]width{}}
}

// setVideo says what a rendition is coded as.
func (t *tracks) setVideo(rid string, v media.Track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v.RID = rid
	news := t.video[rid].Codec != v.Codec
	t.video[rid] = v // another size or profile is in the stream itself
	if news {
		t.change()
	}
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
	return slices.EqualFunc(a, b, func(a, b media.Track) bool {
		return a.Codec == b.Codec && a.Channels == b.Channels && a.RID == b.RID
	})
}

func (t *tracks) change() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// An offer is what a destination may choose from.
type offer struct {
	video []media.Track // the renditions that it wants and that are coded, their RIDs their names
	audio []media.Track // as what there is sound

	wanted []string // the renditions that it would have if all were coded
}

// offer returns what there is of the renditions that a destination gets, and a channel that is closed when something has changed.
func (t *tracks) offer(u Uplink) (offer, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	to := t.route(u)
	t.routes[u.Name] = to
	o := offer{audio: t.audio, wanted: to.renditions}
	for _, name := range to.renditions {
		if v, ok := t.video[name]; ok {
			o.video = append(o.video, v)
		}
	}
	return o, t.changed
}

// wait is offer, once the first rendition is coded, and the others too or layersTime has passed.
func (t *tracks) wait(ctx context.Context, u Uplink) (offer, <-chan struct{}, error) {
	var late <-chan time.Time
	for {
		o, changed := t.offer(u)
		begun := len(o.video) > 0 && o.video[0].RID == o.wanted[0]
		if begun && len(o.video) == len(o.wanted) {
			return o, changed, nil
		}
		if begun && late == nil {
			timer := time.NewTimer(layersTime)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-late:
			if begun {
				return o, changed, nil
			}
			late = nil
		case <-ctx.Done():
			return offer{}, nil, ctx.Err()
		}
	}
}

// choose returns which of the offered tracks a destination gets: the pictures, of which it must take the first rendition, and the
// sound that it likes best. silent says why it gets none where there is some. Where it gets several renditions each has its name
// as RID.
func choose(o offer, carries []media.Codec) (chosen []media.Track, silent, err error) {
	takes := func(t media.Track) bool { return carries == nil || slices.Contains(carries, t.Codec) }
	if first := o.video[0]; !takes(first) {
		return nil, nil, fmt.Errorf("pictures are coded as %v, and it takes %s: %w", first.Codec, list(carries), uplink.ErrRefused)
	}
	for _, t := range o.video {
		if takes(t) {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) > 1 {
		for i, t := range chosen {
			chosen[i].RID = cmp.Or(t.RID, MainLayer)
		}
	}
	if carries == nil {
		return append(chosen, o.audio[:min(len(o.audio), 1)]...), nil, nil
	}
	for _, c := range carries {
		if i := slices.IndexFunc(o.audio, func(t media.Track) bool { return t.Codec == c }); i >= 0 {
			return append(chosen, o.audio[i]), nil, nil
		}
	}
	if len(o.audio) > 0 {
		var have []media.Codec
		for _, t := range o.audio {
			have = append(have, t.Codec)
		}
		silent = fmt.Errorf("it takes %s, and there is sound as %s", list(carries), list(have))
	}
	return chosen, silent, nil
}

// renditionOf returns the rendition that a chosen track of pictures is.
func renditionOf(t media.Track) string {
	if t.RID == MainLayer {
		return ""
	}
	return t.RID
}

// renditionsOf returns the renditions of the pictures among tracks, which come first.
func renditionsOf(tracks []media.Track) (names []string) {
	for _, t := range tracks {
		if t.Codec.Video() {
			names = append(names, renditionOf(t))
		}
	}
	return names
}

func list(codecs []media.Codec) string {
	names := make([]string, len(codecs))
	for i, c := range codecs {
		names[i] = c.String()
	}
	return strings.Join(names, ", ")
}
