package whep

import (
	"sync/atomic"
	"time"
)

// A scene is what clients may be told of a fan's stream. It does not change; the next one takes its place.
type scene struct {
	live   bool
	layers []layer
	next   chan struct{} // closed when this one is of the past
}

// A layer is one video track as clients see it.
type layer struct {
	track         int
	id            string
	bitrate       int // 0: nothing comes
	width, height int
}

// view holds the current scene.
type view struct {
	scene  atomic.Pointer[scene]
	looked time.Time
	moved  bool // a viewer has another layer than before
}

// look renews the scene where it has changed.
func (f *fan) look(now time.Time) {
	heard := false
	for _, h := range f.media.tracks {
		heard = heard || now.Sub(h.arrived) < silence
	}
	old := f.view.scene.Load()
	next := &scene{live: heard && f.sub.Live(), next: make(chan struct{})}
	if old != nil && old.live == next.live && !f.view.moved && now.Sub(f.view.looked) < measured {
		return
	}
	f.view.looked, f.view.moved = now, false
	tracks := f.sub.Tracks()
	for i, h := range f.media.tracks {
		if !h.track.Codec.Video() {
			continue
		}
		if i < len(tracks) {
			h.track.Width, h.track.Height = tracks[i].Width, tracks[i].Height
		}
		h.rate.measure(now)
		l := layer{track: i, id: f.layerID(h), width: h.track.Width, height: h.track.Height}
		if now.Sub(h.arrived) < paused {
			l.bitrate = h.rate.bitrate
		}
		next.layers = append(next.layers, l)
	}
	f.view.scene.Store(next)
	if old != nil {
		close(old.next)
	}
}

// silence is how long a stream may be quiet before it is called inactive.
const silence = 1500 * time.Millisecond
