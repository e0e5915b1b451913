package file

import (
	"time"

	"gantry/media"
)

// A pace maps the times of a file, which it runs through again and again, to CLOCK_MONOTONIC.
type pace struct {
	started bool
	shift   time.Duration // from the file's time to ours
	newest  time.Duration // DTS of the last packet, ours
	step    time.Duration // between the last two of a track of pictures, or of any
	end     time.Duration // where the newest packet of all tracks ends, ours
	anew    bool          // the next packet is the first of the file
	last    []time.Duration
	begun   []bool
	sent    int
}

// again says that the file begins anew.
func (t *pace) again() { t.anew = true }

// place puts a packet on our clock and returns how long it is until then.
func (t *pace) place(p *media.Packet, now time.Duration) time.Duration {
	switch at := p.DTS + t.shift; {
	case !t.started:
		t.started, t.shift = true, now-p.DTS
	case t.anew:
		t.shift = t.end - p.DTS
	case at < t.newest-jump || at > t.newest+jump: // the file's own clock jumps
		t.shift = t.newest + t.step - p.DTS
	}
	t.anew = false
	delay := p.PTS - p.DTS
	p.DTS += t.shift
	if now-p.DTS > late { // the timeline moves, and everything after with it
		t.shift += now - p.DTS
		p.DTS = now
	}
	i := int(p.Track)
	if t.begun[i] {
		if p.DTS <= t.last[i] {
			p.DTS = t.last[i] + time.Millisecond/10
		}
		t.step = p.DTS - t.last[i]
	}
	p.PTS = p.DTS + delay
	t.last[i], t.begun[i] = p.DTS, true
	t.newest = p.DTS
	t.end = max(t.end, p.DTS+max(t.step, time.Millisecond))
	t.sent++
	return p.DTS - now
}
