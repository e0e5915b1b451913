package srt

import "time"

// The estimator's constants. Down within a second of congestion, back up within ten after it ends.
const (
	sampleEvery  = 100 * time.Millisecond
	window       = 500 * time.Millisecond // over which rates and losses are measured
	holdDown     = 700 * time.Millisecond // between two steps down, for the first to show
	holdUp       = 1500 * time.Millisecond
	minRTTMemory = 30 * time.Second
	stepDown     = 0.85 // of what arrives
	growth       = 0.25 // a second
	tooMuchLoss  = 0.12 // of the packets are sent again
)

// A sample is what SRT's statistics say at one moment; counters add up over the connection.
type sample struct {
	at       time.Duration
	rtt      time.Duration
	buffered time.Duration // age of the oldest packet that the peer has not acknowledged
	bytes    uint64        // sent, each packet once
	pending  uint64        // of them not acknowledged
	packets  uint64        // sent, repeats included
	repeats  uint64
	lost     uint64 // bytes given up as too late
	dropped  uint64 // packets given up, for that or for a full queue
}

// An estimator turns SRT's statistics into what the path carries. It holds no clock: time is in the samples.
type estimator struct {
	latency time.Duration // the connection's: what is buffered longer arrives too late
	history []sample      // of the last window, oldest first
	minRTT  time.Duration
	minAt   time.Duration
	target  float64 // bit/s; 0: no congestion seen yet, no opinion
	stepped time.Duration
	bad     time.Duration // when congestion was last seen
}

// next takes a sample and returns how many bit/s the path carries, 0 while there is no reason to hold back.
func (e *estimator) next(s sample) int {
	e.history = append(e.history, s)
	for len(e.history) > 2 && s.at-e.history[1].at >= window {
		e.history = e.history[1:]
	}
	if s.rtt > 0 && (e.minRTT == 0 || s.rtt < e.minRTT || s.at-e.minAt > minRTTMemory) {
		e.minRTT, e.minAt = s.rtt, s.at
	}
	first := e.history[0]
	d := (s.at - first.at).Seconds()
	if d < window.Seconds()/2 {
		return int(e.target)
	}
	arrived := max(0, float64(int64(s.bytes-first.bytes)-int64(s.lost-first.lost)-int64(s.pending)+int64(first.pending))) * 8 / d
	late := s.dropped > first.dropped || s.buffered > e.latency
	queued := s.buffered > e.minRTT+e.latency/2+20*time.Millisecond || s.rtt > 2*e.minRTT+e.latency/3
	lossy := s.packets > first.packets && float64(s.repeats-first.repeats) > tooMuchLoss*float64(s.packets-first.packets)
	switch {
	case late || queued || lossy:
		e.bad = s.at
		// What arrived over the window is too high while the window reaches back to better times, so the next steps, if
		// needed, follow it down at once; a further step below it waits for the first to show.
		next := arrived * stepDown
		if e.target != 0 && next >= e.target {
			if s.at-e.stepped < holdDown {
				break
			}
			next = e.target * stepDown
		}
		e.target, e.stepped = max(next, 1), s.at
	case e.target != 0 && s.at-e.bad > holdUp:
		step := s.at - e.history[len(e.history)-2].at
		e.target += max(e.target, 400_000) * growth * step.Seconds()
		e.target = min(e.target, 2*arrived+1_000_000) // not beyond what has been tried
	}
	return int(e.target)
}
