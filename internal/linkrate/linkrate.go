// Package linkrate turns what a sender's protocol reports into how many bits a second the path carries: down within a second of
// congestion, back up within ten after it ends. An Estimator works from counters (SRT's statistics, TCP's), a Packets from the
// arrival of each packet (WebRTC's transport-wide congestion control), which tells more.
//
// It holds no clock and knows no protocol: time and counters are in the samples.
package linkrate

import "time"

// SampleEvery is how often an Estimator wants a sample.
const SampleEvery = 100 * time.Millisecond

const (
	window       = 500 * time.Millisecond // over which rates and losses are measured
	react        = 150 * time.Millisecond // from a step down until less is sent; of a long round trip, no more is waited for
	holdUp       = 1500 * time.Millisecond
	minRTTMemory = 30 * time.Second
	stepDown     = 0.85 // of what arrives
	gently       = 0.7  // of what is sent: no further in one step
	pilesUp      = 0.85 // share of what is sent that arrives, below which it piles up
	growth       = 0.25 // a second
	regrowth     = 1.0  // a second, far below what the path carried before
	lowest       = 150_000
	someLoss     = 0.08 // share of the packets that are repeats, with a longer round trip: the path is full
	muchLoss     = 0.3  // the same without: a policer, or too bad a path for the rate
	someDropped  = 0.02 // share of the packets that are given up
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
	suspect bool    // the last sample was bad
	before  float64 // bit/s that were sent when congestion began
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
	sent := float64(s.Bytes-first.Bytes) * 8 / d
	arrived := max(0, sent-float64(int64(s.Lost-first.Lost)+int64(s.Pending)-int64(first.Pending))*8/d)
	packets := max(float64(s.Packets-first.Packets), 1)
	repeats, dropped := float64(s.Repeats-first.Repeats)/packets, float64(s.Dropped-first.Dropped)/packets
	longer := s.RTT > e.minRTT+e.minRTT/4+10*time.Millisecond
	// Packets wait somewhere on the way; or they pile up here. Loss alone makes them wait here too, without piling up.
	queued := s.RTT > 2*e.minRTT+e.Latency/3 || arrived < pilesUp*sent && s.Buffered > e.minRTT+e.Latency/2+20*time.Millisecond
	lossy := repeats > muchLoss || longer && repeats > someLoss || dropped > someDropped
	switch {
	case (queued || lossy) && repeats < muchLoss && s.RTT < first.RTT-first.RTT/20: // what waits becomes less: enough for now
		e.bad = s.At
	case (queued || lossy) && !e.suspect: // a stall of this machine looks the same, once
		e.suspect = true
		return int(e.target)
	case queued || lossy:
		if s.At-e.bad > holdUp {
			e.before = sent
		}
		e.bad = s.At
		// What arrived over the window is too high while the window reaches back to better times, so the next steps, if
		// needed, follow it down at once. Repeats take room on the path that is not there for new packets, and the more are
		// needed the further it is from enough; a step for that waits for the one before to show.
		next := arrived * stepDown * (1 - repeats/2)
		if e.target != 0 && next >= e.target {
			if s.At-e.stepped < min(s.RTT, react)+react {
				break
			}
			next = max(e.target*stepDown*(1-repeats), min(e.target*stepDown, sent*gently))
		}
		e.target, e.stepped = max(next, lowest), s.At
	case e.target != 0 && s.At-e.bad > holdUp:
		step := s.At - e.history[len(e.history)-2].At
		grow := growth
		if e.target < e.before/2 {
			grow = regrowth
		}
		e.target += e.target * grow * step.Seconds()
		e.target = min(e.target, 2*arrived+1_000_000) // not beyond what has been tried
	}
	e.suspect = queued || lossy
	return int(e.target)
}
