package pipeline

import (
	"time"
)

// When the source's own packets are too much for a path, and when they are not any more.
const (
	tooNarrow  = 3 * time.Second  // the path leaves less than the source sends for so long: its pictures are coded anew
	wideEnough = 10 * time.Second // it leaves well more for so long: they are passed through again
	wellMore   = 1.2
	relapse    = 30 * time.Second // too narrow again within this: the next time takes twice as long …
	longestWay = 10 * time.Minute // … up to this
	smoothing  = 4 * time.Second  // of the source's bitrate: one with long GOPs comes in bursts
)

// A width is what is known of one destination's path, as far as it decides whether the source's own packets go over it.
type width struct {
	narrow  bool
	carries int           // bit/s, as it is said
	since   time.Duration // the other of narrow is the case; 0: it is not
	turned  time.Duration // when narrow last changed
	wait    time.Duration // until it is passed through again
}

// next is the whole rule. left is what the path leaves to pictures, rate what the source sends and ceiling the most that it is coded
// anew at, in bit/s; 0 of left or rate: not known. A path shows only what is sent over it: where ceiling is below rate, it
// is not known whether it carries the source until that is tried.
func (w width) next(left, rate, ceiling float64, now time.Duration) width {
	if left == 0 || rate == 0 {
		w.since = 0
		return w
	}
	other, lasts := left < rate, tooNarrow
	if w.narrow {
		other, lasts = left >= wellMore*min(rate, ceiling), w.wait
	}
	switch {
	case !other:
		w.since = 0
	case w.since == 0:
		w.since = now
	case now-w.since >= lasts:
		if w.narrow = !w.narrow; w.narrow {
			if w.wait != 0 && now-w.turned < relapse {
				w.wait = min(2*w.wait, longestWay)
			} else {
				w.wait = wideEnough
			}
		}
		w.since, w.turned = 0, now
	}
	return w
}

// weigh looks at the paths of the destinations that could have the source's own packets.
func (u *uplinks) weigh(now time.Duration) {
	rate := u.stream.next(u.pass.rate(now), now)
	u.stream = rate
	if rate.mean == 0 {
		return
	}
	u.mu.Lock()
	links := u.links
	u.mu.Unlock()
	for _, l := range links {
		carries, left := u.feedback.path(l.spec.Name)
		u.tracks.weigh(l.spec.Name, carries, float64(left), rate.mean, float64(u.ceiling()), now)
	}
}

// A smooth is the mean of a bitrate, in which what is long past counts little.
type smooth struct {
	mean float64
	at   time.Duration
}

func (s smooth) next(bps float64, now time.Duration) smooth {
	if s.mean == 0 || bps == 0 {
		return smooth{bps, now}
	}
	return smooth{s.mean + (bps-s.mean)*min((now-s.at).Seconds()/smoothing.Seconds(), 1), now}
}

// weigh notes what a destination's path carries, and decides anew for it when that is too little or enough again.
func (t *tracks) weigh(name string, carries int, left, rate, ceiling float64, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, running := t.routes[name]
	if !running || t.source.pass != PassAuto || !t.source.route(r.uplink).direct() {
		return
	}
	old := t.widths[name]
	w := old.next(left, rate, ceiling, now)
	if w.carries = old.carries; carries != 0 {
		w.carries = carries
	}
	t.widths[name] = w
	if w.narrow != old.narrow {
		t.redirect()
	}
}
