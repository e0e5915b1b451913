package whip

import "time"

const (
	window  = 2048 // sequence numbers that may be waited for; a power of two
	maxLeap = 1500 // a sequence number further away begins a new count (RFC 3550 A.1)
)

// A piece is one received RTP packet, its payload copied.
type piece struct {
	payload []byte // empty for padding alone
	seq     uint16
	ts      uint32
	arrival time.Duration
	capture uint64 // abs-capture-time, NTP format; 0 when the packet has none
	marker  bool
	here    bool
}

// A hole is a sequence number that has not come.
type hole struct {
	seq   uint16
	since time.Duration // noticed
	asked time.Duration // last NACK; 0: not yet
}

// A reorder puts packets in order. It waits for a missing one as long as its caller says, then goes on without it.
type reorder struct {
	slots   [window]piece // by sequence number
	begun   bool
	next    uint16 // to be taken out
	newest  uint16
	holes   []hole // oldest first, all between next and newest
	strange uint16 // the sequence number that would confirm a new count
	leaping bool   // strange is set
	skipped bool   // a packet before next is lost
	lost    uint64 // packets given up
}

// An outcome is what became of a packet.
type outcome uint8

const (
	taken  outcome = iota
	filled         // it had been missing
	stale          // came twice, or too late
	leapt          // the count began anew; everything waiting was given up
	odd            // far from all others; dropped unless the next one follows it
)

// put takes a packet in.
func (r *reorder) put(p piece) outcome {
	p.here = true
	if !r.begun {
		r.begun, r.next, r.newest = true, p.seq, p.seq
		r.slots[p.seq%window] = p
		return taken
	}
	ahead, waiting := int16(p.seq-r.newest), int16(p.seq-r.next)
	if ahead > maxLeap || waiting < -maxLeap {
		if !r.leaping || p.seq != r.strange {
			r.leaping, r.strange = true, p.seq+1
			return odd
		}
		*r = reorder{lost: r.lost, begun: true, next: p.seq, newest: p.seq, skipped: true, holes: r.holes[:0]}
		r.slots[p.seq%window] = p
		return leapt
	}
	r.leaping = false
	if waiting < 0 || r.slots[p.seq%window].here && r.slots[p.seq%window].seq == p.seq {
		return stale
	}
	result := taken
	if ahead > 0 {
		for s := r.newest + 1; s != p.seq; s++ {
			r.holes = append(r.holes, hole{seq: s, since: p.arrival})
		}
		r.newest = p.seq
		for int16(r.newest-r.next) >= window {
			r.skip()
		}
	} else {
		for i, h := range r.holes {
			if h.seq == p.seq {
				r.holes = append(r.holes[:i], r.holes[i+1:]...)
				result = filled
				break
			}
		}
	}
	r.slots[p.seq%window] = p
	return result
}

// take returns the next packet in order, and whether packets before it are lost. It gives up holes noticed before deadline.
func (r *reorder) take(deadline time.Duration) (p piece, lost, ok bool) {
	for r.begun && int16(r.newest-r.next) >= 0 {
		slot := &r.slots[r.next%window]
		if slot.here && slot.seq == r.next {
			p, lost = *slot, r.skipped
			*slot = piece{}
			r.skipped = false
			r.next++
			return p, lost, true
		}
		if len(r.holes) > 0 && r.holes[0].seq == r.next && r.holes[0].since >= deadline {
			return piece{}, false, false
		}
		r.skip()
	}
	return piece{}, false, false
}

// skip gives up what is next, come or not.
func (r *reorder) skip() {
	r.slots[r.next%window] = piece{}
	if len(r.holes) > 0 && r.holes[0].seq == r.next {
		r.holes = r.holes[:copy(r.holes, r.holes[1:])]
	}
	r.skipped = true
	r.lost++
	r.next++
}

// wanted appends the sequence numbers to ask for now: those missing, each again after retry.
func (r *reorder) wanted(dst []uint16, now, retry time.Duration) []uint16 {
	for i := range r.holes {
		h := &r.holes[i]
		if h.asked == 0 || now-h.asked >= retry {
			h.asked = now
			dst = append(dst, h.seq)
		}
	}
	return dst
}
