// Package linkrate turns what a sender's protocol reports (SRT's statistics, TCP's) into how many bits a second the path
// carries: down within a second of congestion, back up within ten after it ends.
//
// It holds no clock and knows no protocol: time and counters are in the samples. WHIP has its own, GCC over TWCC.
package linkrate

import "time"

// SampleEvery is how often an Estimator wants a sample.
const SampleEvery = 100 * time.Millisecond

const (
	window       = 500 * time.Millisecond // over which rates and losses are measured
	holdDown     = 700 * time.Millisecond // between two steps down, for the first to show
	holdUp       = 1500 * time.Millisecond
	minRTTMemory = 30 * time.Second
	stepDown     = 0.85 // of what arrives
	growth       = 0.25 // a second
	tooMuchLoss  = 0.12 // of the packets are sent again
)

// A Sample is what the statistics say at one moment; counters add up over the connection.
type Sample struct {
	At       time.Duration
	RTT      time.Duration
	Buffered time.Duration // age of the oldest packet that the peer has not acknowledged
	Bytes    uint64        // sent, each packet once
	Pending  uint64        // of them not acknowledged
	Packets  uint64        // sent, repeats included
	Repeats  uint64
	Lost     uint64 // bytes given up as too late
	Dropped  uint64 // packets given up, for that or for a full queue
}

// An Estimator serves one connection. One goroutine uses it.
type Estimator struct {
	Latency time.Duration // the connection's: what is buffered longer arrives too late

	history []Sample // of the last window, oldest first
	minRTT  time.Duration
	minAt   time.Duration
	target  float64 // bit/s; 0: no congestion seen yet, no opinion
	stepped time.Duration
	bad     time.Duration // when congestion was last seen
}

// Next takes a sample and returns how many bit/s the path carries, 0 while there is no reason to hold back.
func (e *Estimator) Next(s Sample) int {
	e.history = append(e.history, s)
	for len(e.history) > 2 && s.At-e.history[1].At >= window {
		e.history = e.history[1:]
	}
	if s.RTT > 0 && (e.minRTT == 0 || s.RTT < e.minRTT || s.At-e.minAt > minRTTMemory) {
		e.minRTT, e.minAt = s.RTT, s.At
	}
	first := e.history[0]
	d := (s.At - first.At).Seconds()
	if d < window.Seconds()/2 {
		return int(e.target)
	}
	arrived := max(0, float64(int64(s.Bytes-first.Bytes)-int64(s.Lost-first.Lost)-int64(s.Pending)+int64(first.Pending))) * 8 / d
	late := s.Dropped > first.Dropped || s.Buffered > e.Latency
	queued := s.Buffered > e.minRTT+e.Latency/2+20*time.Millisecond || s.RTT > 2*e.minRTT+e.Latency/3
	lossy := s.Packets > first.Packets && float64(s.Repeats-first.Repeats) > tooMuchLoss*float64(s.Packets-first.Packets)
	switch {
	case late || queued || lossy:
		e.bad = s.At
		// What arrived over the window is too high while the window reaches back to better times, so the next steps, if
		// needed, follow it down at once; a further step below it waits for the first to show.
		next := arrived * stepDown
		if e.target != 0 && next >= e.target {
			if s.At-e.stepped < holdDown {
				break
			}
			next = e.target * stepDown
		}
		e.target, e.stepped = max(next, 1), s.At
	case e.target != 0 && s.At-e.bad > holdUp:
		step := s.At - e.history[len(e.history)-2].At
		e.target += max(e.target, 400_000) * growth * step.Seconds()
		e.target = min(e.target, 2*arrived+1_000_000) // not beyond what has been tried
	}
	return int(e.target)
}
