package pipeline

import (
	"slices"
	"testing"
	"time"
)

var rungs = []level{{100_000, 300_000}, {200_000, 800_000}, {400_000, 2_500_000}}

func TestLadderShares(t *testing.T) {
	for _, c := range []struct {
		room int
		want []int
		live int
	}{
		{5_000_000, []int{300_000, 800_000, 2_500_000}, 3},
		{2_000_000, []int{300_000, 800_000, 900_000}, 3},
		{1_000_000, []int{300_000, 300_000, 400_000}, 3},
		{700_000, []int{100_000, 200_000, 400_000}, 3},
		{600_000, []int{300_000, 300_000, 400_000}, 2},
		{290_000, []int{290_000, 200_000, 400_000}, 1},
		{50_000, []int{100_000, 200_000, 400_000}, 1}, // the smallest is never given up
	} {
		if l := (ladder{}).next(rungs, c.room, time.Hour); !slices.Equal(l.shares, c.want) || l.live != c.live {
			t.Errorf("%d: %v, %d live; want %v, %d", c.room, l.shares, l.live, c.want, c.live)
		}
	}
}

// A layer that was paused comes back when there is more than its floor, not at its edge.
func TestLadderDoesNotChatter(t *testing.T) {
	now := time.Hour
	l := (ladder{}).next(rungs, 650_000, now)
	if l.live != 2 {
		t.Fatalf("%d live", l.live)
	}
	if l = l.next(rungs, 750_000, now); l.live != 2 {
		t.Errorf("%d live at its edge", l.live)
	}
	if l = l.next(rungs, 850_000, now); l.live != 3 {
		t.Errorf("%d live with room", l.live)
	}
	if l = l.next(rungs, 750_000, now); l.live != 3 {
		t.Errorf("%d live: it has its floor", l.live)
	}
}

// Where the path never shows that the next layer fits, it is tried, and less often after failures.
func TestLadderTries(t *testing.T) {
	far := []level{{100_000, 200_000}, {2_000_000, 4_000_000}}
	run := func(l ladder, from, d time.Duration, room func(live int) int) (ladder, int) {
		tries, was := 0, l.live
		for now := from; now < from+d; now += 250 * time.Millisecond {
			l = l.next(far, room(max(l.live, 1)), now)
			if l.live > was {
				tries++
			}
			was = l.live
		}
		return l, tries
	}
	shows := func(live int) int { return []int{300_000, 3_000_000}[live-1] } // what is sent is what is seen to fit
	l, tries := run(ladder{}.next(far, 150_000, time.Hour), time.Hour, 20*time.Second, shows)
	if l.live != 2 || tries != 1 {
		t.Errorf("%d live after %d tries", l.live, tries)
	}
	narrow := func(int) int { return 300_000 }
	l, tries = run(ladder{}.next(far, 150_000, time.Hour), time.Hour, 10*time.Minute, narrow)
	if tries < 5 || tries > 14 {
		t.Errorf("%d tries in ten minutes", tries)
	}
	if l.shares[0] != 200_000 {
		t.Errorf("shares %v", l.shares)
	}
}
