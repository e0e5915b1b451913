package pipeline

import (
	"testing"
	"time"
)

var box = limits{floor: 200_000, ceiling: 2_500_000}

// drive calls next 30 times a second.
func drive(g governor, carries int, from, d time.Duration) (governor, time.Duration, int) {
	changes := 0
	end := from + d
	for ; from < end; from += time.Second / 30 {
		n := g.next(box, carries, from)
		if n.told != g.told {
			changes++
		}
		g = n
	}
	return g, from, changes
}

func TestGovernorFallsAtOnceAndClimbsSlowly(t *testing.T) {
	g, now, _ := drive(governor{}, 0, time.Hour, 3*time.Second)
	if g.told != box.ceiling {
		t.Fatalf("begins at %d", g.told)
	}
	g = g.next(box, 800_000, now)
	if g.told != 800_000 {
		t.Fatalf("falls to %d", g.told)
	}
	low := g.told
	g, now, _ = drive(g, 5_000_000, now, 450*time.Millisecond)
	if g.told != low {
		t.Errorf("climbs to %d without patience", g.told)
	}
	mid, now, _ := drive(g, 5_000_000, now, 1050*time.Millisecond)
	if f := float64(mid.told) / float64(low); f < 1.5 || f > 2.5 {
		t.Errorf("climbs by %.2f in the first second", f)
	}
	g, now, changes := drive(mid, 5_000_000, now, 3*time.Second)
	if g.told != box.ceiling {
		t.Errorf("at %d some seconds after the fall", g.told)
	}
	if changes > 80 {
		t.Errorf("%d changes for the encoder", changes)
	}
	if g, _, changes := drive(g, 5_000_000, now, time.Minute); changes != 0 || g.told != box.ceiling {
		t.Errorf("%d changes at rest", changes)
	}
}

func TestGovernorLimits(t *testing.T) {
	g, now, _ := drive(governor{}, 0, 0, time.Second)
	if g = g.next(box, 10_000, now); g.told != box.floor {
		t.Errorf("floor: %d", g.told)
	}
	small := limits{floor: 500_000, ceiling: 300_000} // a floor above the ceiling means the ceiling
	if g := (governor{}).next(small, 0, now).next(small, 10_000, now+time.Second); g.told != 300_000 {
		t.Errorf("ceiling below floor: %d", g.told)
	}
	g, now, _ = drive(g, 0, now, time.Second)
	if g = g.next(box, 0, now+time.Hour); g.told > 700_000 {
		t.Errorf("after an hour's sleep: %d", g.told)
	}
}

func TestGovernorDoesNotChatter(t *testing.T) {
	g, now, _ := drive(governor{}, 1_500_000, 0, 20*time.Second)
	changes := 0
	for i := range 300 { // an estimate that wobbles by 1 %
		n := g.next(box, 1_500_000+(i%3-1)*15_000, now)
		now += time.Second / 30
		if n.told != g.told {
			changes++
		}
		g = n
	}
	if changes > 10 {
		t.Errorf("%d changes in ten seconds", changes)
	}
}

func BenchmarkGovernor(b *testing.B) {
	g, now := governor{}, time.Duration(0)
	for b.Loop() {
		now += time.Second / 30
		g = g.next(box, 1_500_000, now)
	}
}
