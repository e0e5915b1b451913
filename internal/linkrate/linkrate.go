// Package linkrate turns what a sender's protocol reports into how many bits a second the path carries: down within a second of
// congestion, back up within ten after it ends. One control holds the rate, and two sensors tell it of the path: an Estimator
// sees counters (SRT's statistics, TCP's), a Packets the arrival of each packet (WebRTC's transport-wide congestion control),
// which tells more.
//
// It holds no clock and knows no protocol: time and counters are in the samples.
package linkrate

import "time"

// SampleEvery is how often an Estimator wants a sample.
const SampleEvery = 50 * time.Millisecond

const (
	lately    = 250 * time.Millisecond // over which the rate of arrival is measured
	history   = time.Second            // over which losses are
	slow      = 250 * time.Millisecond // statistics are averages: what a step brings shows late
	onset     = 300 * time.Millisecond // of congestion, until it is noticed
	brief     = 150 * time.Millisecond // and a round trip: over which the rate of arrival is measured then
	lasting   = 150 * time.Millisecond // for which all waits, if it is a queue
	coarse    = 30 * time.Millisecond  // of a longer round trip is no noise
	lowest    = 150_000
	repeating = 0.95 // of what arrives, for repeats that are still to come
	tooLate   = 0.02 // share of packets given up that says that the path is full
	none      = 1e12 // bit/s: no congestion seen yet, no opinion
)

// A Sample is what the statistics say at one moment; counters add up over the connection.
type Sample struct {
	At       time.Duration
	RTT      time.Duration
	Buffered time.Duration // age of the oldest packet that the peer has not acknowledged
	Bytes    uint64        // sent, each packet once
	Pending  uint64        // of them not known to have arrived
	Packets  uint64        // sent, repeats included
	Repeats  uint64
	Lost     uint64 // bytes given up as too late
	Dropped  uint64 // packets given up, for that or for a full queue
}

// An Estimator serves one connection. One goroutine uses it. A queue on the way shows in the round trip, and where that is not
// measured while much is lost, in what piles up here.
type Estimator struct {
	Latency time.Duration // the connection's: what is buffered longer arrives too late
	Slack   time.Duration // an answer may take so much longer though there is no queue
	Exact   bool          // the peer gives nothing up, and Pending is all that has not arrived

	control control
	base    trough // of round trips
	history []Sample
	filled  Sample  // when the path was found full
	late    float64 // bytes acknowledged since, but given up
}

// Next takes a sample and returns how many bit/s the path carries, 0 while there is no reason to hold back.
func (e *Estimator) Next(s Sample) int {
	if e.history == nil {
		e.control = newControl(none, lowest, none, coarse, slow)
	}
	e.history = append(e.history, s)
	for len(e.history) > 2 && s.At-e.history[1].At >= history {
		e.history = e.history[1:]
	}
	if s.RTT > 0 {
		e.base.put(s.At, s.RTT)
	}
	carried := e.arrived(s, carrying)
	before := e.history[max(0, len(e.history)-2)]
	heard := s.RTT != before.RTT || s.Pending == 0 // it is measured with each answer; what is given up leaves without one
	heard = heard || e.Exact && got(s) > got(before)
	if heard && e.control.heard(s.At) {
		e.history = append(e.history[:0], s)
	}
	e.control.look(s.At, s.Pending > 0, carried)
	if heard && s.At-e.history[0].At >= lately {
		// What the peer gave up as too late counts as arrived, and repeats take room that new packets would need.
		lost := e.lost(s)
		arrives := repeating * min(e.arrived(s, max(lately, s.RTT)), carried)
		if !e.Exact {
			arrives *= 1 - lost
		}
		if !e.control.full() || e.control.unfelt(s.RTT) {
			arrives = min(arrives, repeating*e.least())
		}
		if before.Buffered > e.Latency && !e.Exact { // it gives up what is missing, and repeats tell how much that is
			e.late += lost * max(0, float64(got(s)-got(before)))
		}
		full := e.control.full()
		e.control.step(s.At, sight{queue: e.queue(), lost: lost, arrives: arrives, carried: carried, rtt: s.RTT, passes: e.passes(s), vague: true})
		if !full && e.control.full() {
			e.filled, e.late = s, 0
		}
	}
	if e.control.target == none {
		return 0
	}
	return int(e.control.target)
}

// got returns the bytes that the peer has.
func got(s Sample) int64 { return int64(s.Bytes) - int64(s.Pending) - int64(s.Lost) }

// queue returns the s that everything waits on the way: the least of some samples, as single late answers are this machine's.
func (e *Estimator) queue() float64 {
	least := time.Hour
	last := len(e.history) - 1
	for i := last; i >= 0; i-- {
		s := e.history[i]
		took := min(s.RTT, s.Buffered+SampleEvery) // the average remembers a queue that is gone
		least = min(least, max(took-e.base.least()-e.Slack, s.Buffered-2*s.RTT-e.Latency/2, 0))
		if i < last && e.history[last].At-s.At >= lasting {
			break
		}
	}
	return least.Seconds()
}

// lost returns the share of packets that did not come at first; those given up count as many.
func (e *Estimator) lost(s Sample) float64 {
	first := e.history[0]
	packets := float64(s.Packets - first.Packets)
	if packets < 20 {
		return 0
	}
	lost := float64(s.Repeats-first.Repeats) / packets
	if float64(s.Dropped-first.Dropped)/packets > tooLate {
		lost = max(lost, mostRandom)
	}
	return lost
}

// passes returns the bit/s that the path has carried since it was found full; 0: not known yet.
func (e *Estimator) passes(s Sample) float64 {
	took := s.At - e.filled.At
	if !e.control.full() || took < onset {
		return 0
	}
	return max(0, (float64(got(s)-got(e.filled))-e.late)*8/took.Seconds())
}

// least returns the bit/s that arrived in the emptiest moment of the last time: when a queue begins to stand, that is before the
// receiver gives up what is missing.
func (e *Estimator) least() float64 {
	least, brief := float64(none), brief+e.base.least() // for so long a single loss stops what the receiver acknowledges
	last := len(e.history) - 1
	for i, j := last, last; i >= 0 && e.history[last].At-e.history[i].At <= onset+brief; i-- {
		for j > i && e.history[j-1].At-e.history[i].At >= brief {
			j--
		}
		if a, b := e.history[i], e.history[j]; b.At-a.At >= brief {
			least = min(least, max(0, float64(got(b)-got(a))*8/(b.At-a.At).Seconds()))
		}
	}
	return least
}

// arrived returns the bit/s that arrived over the last d.
func (e *Estimator) arrived(s Sample, d time.Duration) float64 {
	for i := len(e.history) - 1; i >= 0; i-- {
		if first := e.history[i]; s.At-first.At >= d || i == 0 && s.At > first.At {
			return max(0, float64(got(s)-got(first))*8/(s.At-first.At).Seconds())
		}
	}
	return 0
}
