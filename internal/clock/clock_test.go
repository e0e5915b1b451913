package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the kernel's clock: a reading of the kernel's lies between two of ours.
func TestNowIsTheKernelsMonotonicClock(t *testing.T) {
	const slack = 20 * time.Microsecond // the anchor is the middle of two readings
	for range 1000 {
		before := Now()
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		after := Now()
		if k := time.Duration(ts.Nano()); k < before-slack || k > after+slack {
			t.Fatalf("kernel %v, ours %v to %v", k, before, after)
		}
	}
}

func TestWallIsUTC(t *testing.T) {
	before := time.Now()
	got := Wall(Now())
	after := time.Now()
	if got.Before(before.Add(-step)) || got.After(after.Add(step)) {
		t.Fatalf("%v is not between %v and %v", got, before, after)
	}
	if got.Location() != time.UTC {
		t.Errorf("location %v", got.Location())
	}
}

func TestMappingIgnoresNoiseAndFollowsSteps(t *testing.T) {
	const base = 1_700_000_000 * time.Second
	var m mapping
	for i, c := range []struct{ measured, width, want time.Duration }{
		{base, 0, base},
		{base + 900*time.Microsecond, 0, base},                    // a slow reading
		{base - 900*time.Microsecond, 0, base},                    //
		{base + 2*time.Millisecond, 4 * time.Millisecond, base},   // preempted in the middle of all three
		{base + 3*time.Second, 0, base + 3*time.Second},           // NTP stepped forwards
		{base + 2*time.Second, 1000, base + 2*time.Second},        // a leap second
		{base + 2*time.Second + 1000, 0, base + 2*time.Second},    //
		{base - 3600*time.Second, 0, base - 3600*time.Second},     // a person
		{base - 3600*time.Second - 1, 0, base - 3600*time.Second}, //
	} {
		measure := func() (offset, width time.Duration) { return c.measured, c.width }
		if m.update(time.Duration(i+1)*time.Second, measure); m.value != c.want {
			t.Errorf("step %d: offset %v, want %v", i, m.value, c.want)
		}
	}
}

func TestBubbleClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pts, now := Now(), time.Now()
		time.Sleep(90 * time.Second)
		if d := Now() - pts; d != 90*time.Second {
			t.Errorf("Now moved by %v", d)
		}
		if got := Wall(pts); got.Sub(now).Abs() >= step {
			t.Errorf("Wall %v, want %v", got, now)
		}
	})
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		Now()
	}
}

func BenchmarkWall(b *testing.B) {
	for b.Loop() {
		Wall(1)
	}
}
