// Package clock reads the one clock that stamps media, CLOCK_MONOTONIC, and maps it to wall time.
//
// It owns the anchor between the Go runtime's monotonic clock and the kernel's, and the offset to UTC. It knows nothing of
// media or of wire formats.
//
// Inside a testing/synctest bubble both functions follow the bubble's clock: differences are right, and Wall(Now()) is
// time.Now(); the absolute value of Now means nothing there.
package clock

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The Go runtime reads CLOCK_MONOTONIC without a system call, but counts from the start of the process. One reading of both
// at the start gives the difference, which never changes.
var (
	origin   = time.Now()
	anchored = anchor()
)

func anchor() time.Duration {
	best, at := time.Hour, time.Duration(0)
	for range 5 { // the tightest of five: a reading that was preempted in the middle is wide
		before := time.Since(origin)
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic("clock: no CLOCK_MONOTONIC: " + err.Error()) // every Linux has it
		}
		after := time.Since(origin)
		if after-before < best {
			best, at = after-before, time.Duration(ts.Nano())-(before+after)/2
		}
	}
	return at
}

// Now returns CLOCK_MONOTONIC: what capture drivers stamp pictures with.
func Now() time.Duration { return anchored + time.Since(origin) }

// Wall returns the UTC time at which the monotonic clock showed, or will show, pts.
//
// The kernel slews both clocks alike, so the offset between them only changes when somebody steps the wall clock (NTP at
// boot, a person, a leap second). Wall looks once a second: differences below a millisecond are the noise of reading two
// clocks and are ignored, so that the mapping has no jitter; a step is taken over whole, also for earlier pts, since the new
// offset is the better knowledge of when those were.
func Wall(pts time.Duration) time.Time { return time.Unix(0, int64(pts+wall.offset())).UTC() }

// step is the smallest change of the offset that is believed to be one.
const step = time.Millisecond

var wall mapping

type mapping struct {
	mu     sync.Mutex
	looked time.Duration // when, on the monotonic clock; 0: never
	value  time.Duration // wall minus monotonic
}

func (m *mapping) offset() time.Duration {
	now := Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if age := now - m.looked; m.looked != 0 && age >= 0 && age < time.Second {
		return m.value
	}
	m.update(now, measure)
	return m.value
}

// update takes over what measure finds, if it is a step. A reading that was preempted is off by up to half its width, so it
// must be that much further away to be believed.
func (m *mapping) update(now time.Duration, measure func() (offset, width time.Duration)) {
	measured, width := measure()
	if m.looked == 0 || (measured-m.value).Abs() >= step+width {
		m.value = measured
	}
	m.looked = now
}

// measure returns wall minus monotonic by the first tight reading, or the tightest of many, and how wide that was.
func measure() (offset, width time.Duration) {
	const tight = 5 * time.Microsecond
	width = time.Hour
	for i := 0; i < 50 && width > tight; i++ {
		before := Now()
		t := time.Now()
		after := Now()
		if after-before < width {
			width, offset = after-before, time.Duration(t.UnixNano())-(before+after)/2
		}
	}
	return offset, width
}
