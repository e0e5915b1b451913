package pipeline

import (
	"slices"
	"time"
)

// How the layers of one destination share its path.
const (
	resume     = 1.25            // of its floor must be left for a layer that is paused
	contented  = 5 * time.Second // all layers that go on have all they may use for so long: a paused one is tried
	trialTime  = 3 * time.Second // within which the path may show that it carries it
	longestTry = time.Minute     // between trials of which the last failed
)

// A level is what one layer may use, in bit/s.
type level struct{ floor, ceiling int }

// A ladder is how the layers of one destination, the smallest first, share what its path carries.
type ladder struct {
	shares []int // bit/s by layer; one that is paused has its floor, to resume at
	live   int   // how many go on: the smallest always does

	content time.Duration // since when those have all that they may use; 0: they have not
	trial   time.Duration // until when the largest of them goes on untested; 0: it is not
	wait    time.Duration // until the next trial
}

// next is the whole rule: each layer gets its floor, the smaller before the larger, and one for whose floor nothing is left
// pauses with all above it. What remains fills the smaller layers first. A path shows only what is sent over it, so that where a
// larger layer's floor is far above the smaller ones' ceilings, it would never be seen to fit: it is tried now and then.
func (l ladder) next(levels []level, room int, now time.Duration) ladder {
	n := len(levels)
	was := l.live
	if was == 0 || len(l.shares) != n {
		l, was = ladder{wait: contented}, n
	}
	floors, ceilings, live := levels[0].floor, levels[0].ceiling, 1
	for i := 1; i < n; i++ {
		need := float64(levels[i].floor)
		trying := i == was-1 && l.trial != 0 && now < l.trial
		if i >= was {
			need *= resume
		}
		if float64(room-floors) < need && !trying {
			break
		}
		floors, ceilings, live = floors+levels[i].floor, ceilings+levels[i].ceiling, i+1
	}
	switch {
	case live < was && l.trial != 0: // the trial has failed
		l.trial, l.content, l.wait = 0, 0, min(2*l.wait, longestTry)
	case live == n:
		l.content = 0
		if now >= l.trial {
			l.trial, l.wait = 0, contented
		}
	case room < ceilings:
		l.content = 0
	case l.content == 0:
		l.content = now
	case now-l.content >= l.wait:
		live++
		l.content, l.trial = 0, now+trialTime
		floors += levels[live-1].floor
	}
	l.live = live
	l.shares = slices.Repeat([]int{0}, n)
	left := max(room-floors, 0)
	for i, v := range levels {
		more := 0
		if i < live {
			more = min(max(v.ceiling-v.floor, 0), left)
		}
		l.shares[i] = v.floor + more
		left -= more
	}
	return l
}
