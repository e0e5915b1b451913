package whep

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Times of layers.
const (
	paused   = 700 * time.Millisecond // without a packet a layer is not offered: its publisher has no room for it
	unmoved  = 100 * time.Millisecond // so long the rest of a picture is waited for before another layer goes on
	measured = time.Second            // over which bit rates are taken
)

// layering is what a viewer needs where its video has several layers: encodings of one picture in one codec.
type layering struct {
	layers []*history // what the session was negotiated for, in the stream's order
	target *history   // goes on at its next key frame; nil: none
	since  uint64     // target's key frame is at this index or later
	asked  time.Time  // for that key frame
	wish   wish
	adapter
}

// A wish is what the client has asked for by the layer extension; the zero value leaves it to the server.
type wish struct {
	rid           string // "" is any
	width, height int    // at most; 0: any
}

// allows tells whether h is within the wish's size.
func (w wish) allows(h *history) bool {
	return (w.width == 0 || h.track.Width <= w.width) && (w.height == 0 || h.track.Height <= w.height)
}

// layerID names a layer to clients: its RID, or where it has none its place in the stream.
func (f *fan) layerID(h *history) string {
	if h.track.RID != "" {
		return h.track.RID
	}
	return strconv.Itoa(slices.Index(f.media.tracks, h))
}

// ladder returns those of layers that come now, from small to large by size, and by bit rate where that does not tell.
func ladder(layers []*history, now time.Time) []*history {
	var live []*history
	for _, h := range layers {
		if now.Sub(h.arrived) < paused {
			live = append(live, h)
		}
	}
	sized := !slices.ContainsFunc(live, func(h *history) bool { return h.track.Width == 0 || h.track.Height == 0 })
	slices.SortStableFunc(live, func(a, b *history) int {
		size := 0
		if sized {
			size = cmp.Compare(a.track.Width*a.track.Height, b.track.Width*b.track.Height)
		}
		return cmp.Or(size, cmp.Compare(a.rate.bitrate, b.rate.bitrate))
	})
	return live
}

func rates(layers []*history) []int {
	r := make([]int, len(layers))
	for i, h := range layers {
		r[i] = h.rate.bitrate
	}
	return r
}

// choose returns the layer that v is to have now.
func (f *fan) choose(v *viewer, now time.Time) *history {
	live := ladder(v.layers, now)
	if i := slices.IndexFunc(live, func(h *history) bool { return v.wish.rid != "" && f.layerID(h) == v.wish.rid }); i >= 0 {
		return live[i]
	}
	if i := slices.IndexFunc(live, func(h *history) bool { return !v.wish.allows(h) }); i > 0 {
		live = live[:i]
	} else if i == 0 {
		live = live[:1] // the smallest is the nearest to it
	}
	if len(live) == 0 {
		return v.video.history // waiting for it is all there is to do
	}
	return live[v.adapter.next(now, rates(live))]
}

// adapt begins to move v to the layer that it is to have, if that is another.
func (f *fan) adapt(v *viewer, now time.Time) {
	f.follow(v, now)
	if v.video == nil || len(v.layers) < 2 {
		return
	}
	h := f.choose(v, now)
	switch {
	case h == v.video.history:
		v.target = nil
	case h != v.target:
		v.target, v.since, v.asked = h, h.next, now
		f.wantKey(h)
	case now.Sub(v.asked) > askEvery:
		v.asked = now
		f.wantKey(h)
	}
}

// arrived tells whether the layer that v is to have can go on.
func (v *viewer) arrived() bool { return v.target != nil && v.target.keyed && v.target.key >= v.since }

// cross moves v to its target where that has begun and the picture before is whole.
func (v *viewer) cross(f *fan) {
	o := v.video
	if !v.arrived() || !v.waiting && !o.whole && time.Since(o.history.arrived) < unmoved {
		return
	}
	o.history = v.target
	f.view.moved = true
	v.session.selection.set(slices.Index(f.media.tracks, o.history))
	v.target, v.waiting, v.until = nil, false, time.Time{}
	o.startAt(o.history.key)
	o.base = o.origin
	if e := o.history.at(o.history.key); e != nil && o.packets > 0 && int32(o.base+e.ts-o.sent) <= 0 {
		// This layer's clock is a little behind the last one's, and time must not go back.
		o.base = o.sent - e.ts + rtpTime(time.Millisecond, o.history.track.ClockRate)
	}
}

// rate measures a history's bit rate.
type rate struct {
	bytes   int
	since   time.Time
	bitrate int // bit/s of payload, smoothed; 0 while nothing comes
}

func (r *rate) measure(now time.Time) {
	d := now.Sub(r.since)
	if d < measured {
		return
	}
	bitrate := int(float64(8*r.bytes) / d.Seconds())
	switch {
	case r.since.IsZero():
		bitrate = 0
	case r.bitrate > 0 && bitrate > 0:
		bitrate = (r.bitrate + bitrate) / 2
	}
	r.bytes, r.since, r.bitrate = 0, now, bitrate
}
