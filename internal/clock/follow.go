package clock

import "time"

const (
	followWindow = 5 * time.Second // over which the least delay is looked for
	followSlope  = 500e-6          // the most by which the mapping runs faster or slower than the remote clock
	followJump   = 2 * time.Second // further off, the remote clock was set, or another stream begins
)

// A Follower maps the clock of a remote source to CLOCK_MONOTONIC, by when its packets arrive. The delay of a packet varies and its
// least does not, so the least of each few seconds shows how the remote clock drifts; the mapping follows that so slowly that the
// distances between pictures do not change visibly. One goroutine uses it. The zero value is ready.
type Follower struct {
	begun  bool
	offset time.Duration // ours minus the remote's, at last
	last   time.Duration // remote time of the newest packet
	slope  float64       // of offset, per unit of remote time
	drift  float64       // what slope is in the long run
	window time.Duration // remote time at which it began
	least  time.Duration // arrival minus remote time, the least in the window
	jumps  int
}

// At returns when, on our clock, a packet with that remote time is to be taken as captured, if it arrived at now. Packets of several
// tracks of one source may come in any order within two seconds.
func (f *Follower) At(remote, now time.Duration) time.Duration {
	if off := now - remote - f.offset; !f.begun || off.Abs() > followJump {
		if f.begun {
			f.jumps++
		}
		*f = Follower{begun: true, offset: now - remote, last: remote, window: remote, least: now - remote, jumps: f.jumps}
		return now
	}
	f.least = min(f.least, now-remote)
	if step := remote - f.last; step > 0 {
		f.offset += time.Duration(f.slope * float64(step))
		f.last = remote
	}
	if long := f.last - f.window; long >= followWindow {
		off := float64(f.least-f.offset) / float64(long)
		f.drift = bounded(f.drift + off/50)
		f.slope = bounded(f.drift + off/4)
		f.window, f.least = f.last, now-remote
	}
	return remote + f.offset
}

func bounded(slope float64) float64 { return min(max(slope, -followSlope), followSlope) }

// Drift returns by how much our clock runs faster than the remote one, as a share, as far as is known.
func (f *Follower) Drift() float64 { return f.drift }

// Jumps returns how often the remote clock was set.
func (f *Follower) Jumps() int { return f.jumps }
