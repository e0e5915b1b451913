package linkrate

import (
	"fmt"
	"testing"
	"time"
)

// A stream is a simulated TCP connection, as far as its statistics show it: selective acknowledgements, a window that losses
// shrink, a round trip that is averaged, and a receiver that acknowledges every second segment at once and a last one late. No
// clock runs.
type stream struct {
	rate    func(at time.Duration) float64 // of the bottleneck, bit/s
	delay   time.Duration                  // one way
	buffer  time.Duration                  // what may wait at the bottleneck
	delayed time.Duration                  // how late the last segment is acknowledged

	free     time.Duration // when the bottleneck has sent all
	written  int           // bytes that TCP has taken
	pictures []picture     // not acknowledged
	waiting  []picture     // that TCP has not taken
	segments []*segment    // not acknowledged
	acks     []acknowledgement
	sent     int // bytes cut into segments
	window   float64
	reduced  time.Duration
	rtt      float64 // s
	owed     time.Duration
	repeats  int
	all      int
}

type picture struct {
	at    time.Duration
	bytes int // left to take; then: where it ends
}

type segment struct {
	bytes        int
	sent         time.Duration
	arrives      time.Duration // 0: it is lost
	again        bool
	sacked, seen bool // as the sender knows it, as the receiver does
}

type acknowledgement struct {
	due     time.Duration
	newest  *segment
	seen    []*segment
	measure bool
}

const (
	streamSegment = 1448
	streamUnsent  = 64 << 10
)

func (t *stream) transmit(s *segment, at time.Duration) {
	s.sent, s.arrives = at, 0
	t.all++
	t.free = max(t.free, at)
	if t.free-at > t.buffer {
		return
	}
	t.free += time.Duration(float64((s.bytes+66)*8) / t.rate(at) * 1e9)
	s.arrives = t.free + t.delay
}

// take cuts what the encoder has made into segments, as far as the window and what the kernel holds allow.
func (t *stream) take(at time.Duration) {
	for len(t.waiting) > 0 && t.written-t.sent < streamUnsent {
		t.written += t.waiting[0].bytes
		t.pictures = append(t.pictures, picture{at, t.written})
		t.waiting = t.waiting[1:]
	}
	for t.sent < t.written && float64(t.inFlight()) < t.window {
		s := &segment{bytes: min(streamSegment, t.written-t.sent)}
		t.sent += s.bytes
		t.segments = append(t.segments, s)
		t.transmit(s, at)
	}
}

func (t *stream) inFlight() (bytes int) {
	for _, s := range t.segments {
		if !s.sacked {
			bytes += s.bytes
		}
	}
	return bytes
}

// receive makes the acknowledgements.
func (t *stream) receive(at time.Duration) {
	var came []*segment
	for _, s := range t.segments {
		if !s.seen && s.arrives > 0 && s.arrives <= at {
			s.seen = true
			came = append(came, s)
		}
	}
	for _, s := range came {
		hole := false
		for _, before := range t.segments {
			hole = hole || !before.seen
			if before == s {
				break
			}
		}
		if !hole && t.owed == 0 && s.bytes < streamSegment {
			t.owed = at + t.delayed
			continue
		}
		t.owed = 0
		t.acks = append(t.acks, acknowledgement{due: at + t.delay, newest: s, measure: !s.again})
	}
	if t.owed > 0 && t.owed <= at {
		t.owed = 0
		t.acks = append(t.acks, acknowledgement{due: at + t.delay})
	}
	for i := range t.acks {
		if t.acks[i].seen == nil {
			for _, s := range t.segments {
				if s.seen {
					t.acks[i].seen = append(t.acks[i].seen, s)
				}
			}
		}
	}
}

// learn takes the acknowledgements and sends again what is missing.
func (t *stream) learn(at time.Duration) {
	for len(t.acks) > 0 && t.acks[0].due <= at {
		a := t.acks[0]
		t.acks = t.acks[1:]
		for _, s := range a.seen {
			if !s.sacked {
				s.sacked = true
				if !s.again {
					t.rtt += ((at - s.sent).Seconds() - t.rtt) / 8
				}
				t.window += streamSegment * streamSegment / t.window
			}
		}
		for len(t.segments) > 0 && t.segments[0].sacked {
			t.segments = t.segments[1:]
		}
	}
	behind := 0
	for i := len(t.segments) - 1; i >= 0; i-- {
		s := t.segments[i]
		if s.sacked {
			behind++
			continue
		}
		trip := time.Duration(1.2 * t.rtt * 1e9)
		if behind >= 3 && !s.again || at-s.sent > trip+200*time.Millisecond || s.again && at-s.sent > trip {
			if at-t.reduced > trip {
				t.reduced = at
				t.window = max(0.7*t.window, 4*streamSegment)
			}
			s.again = true
			t.repeats++
			t.transmit(s, at)
		}
	}
}

func (t *stream) sample(at time.Duration) Sample {
	acked := t.sent
	pending := t.written - t.sent
	for _, s := range t.segments {
		acked -= s.bytes
		if !s.sacked {
			pending += s.bytes
		}
	}
	for len(t.pictures) > 0 && t.pictures[0].bytes <= acked {
		t.pictures = t.pictures[1:]
	}
	s := Sample{At: at, RTT: time.Duration(t.rtt * 1e9), Bytes: uint64(t.written), Pending: uint64(pending), Packets: uint64(t.all), Repeats: uint64(t.repeats)}
	if len(t.pictures) > 0 {
		s.Buffered = at - t.pictures[0].at
	}
	return s
}

// drive runs an encoder that obeys e; the delay in a moment is the age of the oldest picture that waits for TCP or in it.
func (t *stream) drive(e *Estimator, length time.Duration) (all []moment) {
	t.rtt, t.window = 2*t.delay.Seconds(), 200_000
	var last time.Duration
	encoder, estimate := float64(simCeiling), float64(none)
	for at := time.Millisecond; at < length; at += time.Millisecond {
		if at-last >= time.Second/30 {
			last = at
			t.waiting = append(t.waiting, picture{at, int(encoder / 30 / 8)})
		}
		t.learn(at)
		t.take(at)
		t.receive(at)
		if at%SampleEvery == 0 {
			if got := e.Next(t.sample(at)); got > 0 {
				estimate = float64(got)
			}
		}
		if want := max(min(simCeiling, 0.93*estimate), simFloor); want < encoder {
			encoder = want
		} else {
			encoder = min(want, encoder*(1+0.9*0.001))
		}
		m := moment{at, estimate, encoder, 0}
		if len(t.waiting) > 0 {
			m.delay = at - t.waiting[0].at
		}
		if len(t.pictures) > 0 {
			m.delay = max(m.delay, at-t.pictures[0].at)
		}
		all = append(all, m)
	}
	return all
}

const simFloor = 400_000

// After a drop the rate is near what the link carries within seconds, though the statistics are averages and a last segment is
// acknowledged late.
func TestEstimatorSettlesOverTCP(t *testing.T) {
	for _, delay := range []time.Duration{10, 20, 50} {
		for _, buffer := range []time.Duration{100, 200, 500} {
			for _, low := range []float64{800_000, 1_500_000, 2_500_000} {
				s := &stream{delay: delay * time.Millisecond, buffer: buffer * time.Millisecond, delayed: 40 * time.Millisecond, rate: func(at time.Duration) float64 {
					if at > 10*time.Second && at < 25*time.Second {
						return low
					}
					return 20e6
				}}
				all := s.drive(&Estimator{Latency: 500 * time.Millisecond, Slack: 40 * time.Millisecond, Exact: true}, 40*time.Second)
				before, _, _, _ := between(all, 3*time.Second, 10*time.Second)
				down := first(all, 10*time.Second, func(m moment) bool { return m.encoder < low })
				back := first(all, 11*time.Second, func(m moment) bool { return m.encoder > 0.65*low })
				least, most, mean, queue := between(all, 15*time.Second, 25*time.Second)
				up := first(all, 25*time.Second, func(m moment) bool { return m.encoder > 0.95*simCeiling })
				text := fmt.Sprintf("delay %v buffer %v to %.1f Mbit/s: before %.2f, down %v, back %v; from 5 s on least %.2f most %.2f mean %.2f oldest %v; up %v", s.delay, s.buffer,
					low/1e6, before/simCeiling, down, back, least/low, most/low, mean/low, queue, up)
				if before < 0.9*simCeiling || down > time.Second || back > 5*time.Second || mean < 0.75*low || mean > low || queue > 800*time.Millisecond || up > 8*time.Second {
					t.Error(text)
				} else {
					t.Log(text)
				}
			}
		}
	}
}
