package whep

import "time"

// repeats remembers which packets a viewer was sent again lately. Some clients ask for a lost packet every 100 ms until it is
// seconds old, though it has long come: each time it is sent, the wait until it may be sent again doubles, so that it does not
// use up what others need.
type repeats [128]repeat

type repeat struct {
	seq uint64 // as outTrack.last counts
	at  time.Time
	n   uint8
}

// firstRepeat is the wait after the first time.
const firstRepeat = 20 * time.Millisecond

// due tells whether a packet may be sent again now, and notes that it is.
func (r *repeats) due(seq uint64, now time.Time) bool {
	e := &r[seq%uint64(len(r))]
	switch {
	case e.n == 0 || e.seq != seq:
		*e = repeat{seq: seq}
	case now.Sub(e.at) < firstRepeat<<(e.n-1):
		return false
	}
	e.at, e.n = now, min(e.n+1, 10)
	return true
}
