package clock

import (
	"math/rand/v2"
	"testing"
	"time"
)

// An hour of a camera whose clock is 80 ppm slow, over a network that delays each packet by 5 to 60 ms: the mapping stays with the
// arrivals, and two pictures never lie visibly closer or further apart than the camera says.
func TestFollowerDrift(t *testing.T) {
	var f Follower
	rnd := rand.New(rand.NewPCG(1, 2))
	const interval = 40 * time.Millisecond
	var last time.Duration
	for i := range 90000 {
		sent := time.Duration(i) * interval
		remote := sent - time.Duration(float64(sent)*80e-6) + 12*time.Hour
		now := sent + 5*time.Millisecond + time.Duration(rnd.Int64N(int64(55*time.Millisecond)))
		at := f.At(remote, now)
		if delay := at - sent; i > 500 && (delay < -40*time.Millisecond || delay > 70*time.Millisecond) {
			t.Fatalf("picture %d: %v from when it was sent", i, delay)
		}
		if i > 0 {
			if step := at - last; (step - interval).Abs() > 50*time.Microsecond {
				t.Fatalf("picture %d: %v after the one before", i, step)
			}
		}
		last = at
	}
	if d := f.Drift(); d < 20e-6 || d > 200e-6 {
		t.Errorf("drift %v", d)
	}
	if f.Jumps() != 0 {
		t.Errorf("%d jumps", f.Jumps())
	}
}

func TestFollowerJump(t *testing.T) {
	var f Follower
	for i := range 100 {
		f.At(time.Duration(i)*time.Second/25, time.Duration(i)*time.Second/25)
	}
	for _, remote := range []time.Duration{time.Hour, -time.Hour} { // the camera sets its clock
		if at := f.At(remote, 10*time.Second); at != 10*time.Second {
			t.Errorf("at %v: %v", remote, at)
		}
	}
	if f.Jumps() != 2 {
		t.Errorf("%d jumps", f.Jumps())
	}
}
