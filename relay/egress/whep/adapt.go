package whep

import "time"

// How a viewer's layer follows its path.
const (
	firstBitrate = 3_000_000               // bit/s that a path is trusted with before it has been heard of
	heavyLoss    = 0.10                    // share of packets that says that the path is full; retransmission mends less
	queueing     = 250 * time.Millisecond  // round trip beyond the shortest that says the same
	settle       = 1500 * time.Millisecond // from a descent to its effect
	minPatience  = 2 * time.Second         // without trouble before a larger layer is tried
	maxPatience  = time.Minute
	trial        = 8 * time.Second // trouble so soon after an ascent is blamed on it
)

// An adapter chooses the layer for one viewer from what is heard of its path: down at once when it is full, up when it has been
// clear for a while, and more patiently after each ascent that failed. It has no clock of its own.
type adapter struct {
	level    int // of the layers from small to large
	begun    bool
	clear    time.Time // since when the path has been clear
	moved    time.Time // last descent
	tried    time.Time // last ascent
	patience time.Duration
	shortest time.Duration // round trip
	last     time.Duration // round trip
	full     bool          // by the newest report
	carries  int           // bit/s that the path is known to carry; 0: nobody estimates it
	limit    int           // bit/s that the path was found to carry when it was full; 0: it was not found full
}

// hear takes a reception report: the share of packets lost since the last, and the round trip, 0 when it is not known. A machine
// that others keep busy holds up a report: one alone is no queue, and where the path is estimated that knows better.
func (a *adapter) hear(now time.Time, lost float64, rtt time.Duration) {
	if rtt > 0 && (a.shortest == 0 || rtt < a.shortest) {
		a.shortest = rtt
	}
	a.full = lost > heavyLoss || a.carries == 0 && min(rtt, a.last) > 2*a.shortest+queueing
	a.last = rtt
	if a.full || a.clear.IsZero() {
		a.clear = now
	}
}

// next returns the level to be at, given the bit rates of all layers from small to large.
func (a *adapter) next(now time.Time, rates []int) int {
	top := len(rates) - 1
	if !a.begun {
		a.begun, a.level, a.patience, a.clear = true, highest(rates, firstBitrate), minPatience, now
	}
	a.level = min(a.level, top)
	over := a.limit > 0 && rates[a.level] > a.limit
	switch {
	case (a.full || over) && a.level > 0 && now.Sub(a.moved) > settle:
		if now.Sub(a.tried) < trial {
			a.patience = min(2*a.patience, maxPatience)
		}
		a.level--
		if over {
			a.level = min(a.level, highest(rates, a.limit))
		}
		a.moved, a.clear, a.full = now, now, false
	case !a.full && !over && a.level < top && now.Sub(a.clear) >= a.wait(rates[a.level+1]):
		if a.limit > 0 && rates[a.level+1] > a.limit {
			break // known not to fit
		}
		if a.carries > 0 && rates[a.level+1]+rates[a.level+1]/8 > a.carries {
			break // not known to fit
		}
		if now.Sub(a.tried) > 4*trial {
			a.patience = max(a.patience/2, minPatience)
		}
		a.level++
		a.tried, a.clear = now, now
	}
	return a.level
}

// wait returns how long the path must have been clear before a layer of that bit rate is tried: less where it was measured to fit.
func (a *adapter) wait(rate int) time.Duration {
	if a.carries > rate+rate/8 {
		return min(a.patience, 2*minPatience)
	}
	return a.patience
}

// highest returns the largest level that fits, or the smallest of all.
func highest(rates []int, fits int) int {
	level := 0
	for i, r := range rates {
		if r <= fits {
			level = i
		}
	}
	return level
}
