package linkrate

import "time"

const (
	seen       = 150 * time.Millisecond // of arrival: the least delayed of its packets shows whether a queue stands
	seenLeast  = 3                      // packets
	carrying   = 500 * time.Millisecond // over which the rate of arrival is measured where it need not be new
	baseMemory = 15 * time.Second       // how long the least delay counts, at least; clocks drift apart by a millisecond in it
	standing   = 20 * time.Millisecond
	settle     = 200 * time.Millisecond
)

// An Arrival is what a receiver says of one packet.
type Arrival struct {
	Sent    time.Duration // on the sender's clock
	Arrived time.Duration // on the receiver's clock, wherever that begins
	Bytes   int
	Lost    bool // and Arrived is nothing
}

// A Packets estimates what a path carries from the arrival of single packets, as transport-wide congestion control reports them
// (draft-holmer-rmcat-transport-wide-cc-extensions-01). A queue on the way shows in the delay, which is compared with the least
// that the path has had: by the least delayed of the packets of a moment, as jitter, and stalls of either machine, delay others
// but never all.
//
// The zero value is not usable. One goroutine uses it at a time; now is on the sender's clock.
type Packets struct {
	control  control
	base     trough // of delays
	delays   []delay
	newest   time.Duration // Sent of the newest that arrived
	arrivals []arrival
	losses   []losses
	rtt      time.Duration
	resumed  time.Duration // what was sent before does not count
}

type delay struct{ at, took time.Duration } // at arrival

type arrival struct {
	at    time.Duration
	bytes int
}

type losses struct {
	at          time.Duration
	lost, total int
}

// NewPackets returns a Packets that begins at start, all in bit/s.
func NewPackets(start, floor, ceiling int) *Packets {
	return &Packets{control: newControl(float64(start), float64(floor), float64(ceiling), standing, settle)}
}

// Rate returns how many bit/s the path carries.
func (p *Packets) Rate() int { return int(p.control.target) }

// Full tells that a queue stands on the way: nothing shall be sent beyond Rate now.
func (p *Packets) Full() bool { return p.control.full() }

// Tight tells that the path was full lately and has not shown since that it carries what it did before: bursts may fill it again.
func (p *Packets) Tight() bool { return p.control.tight() }

// Recovering returns how many bit/s to fill up to while the rate has not come back to what it was, 0 when it has: what is not
// sent is not put to the test.
func (p *Packets) Recovering() int {
	if !p.control.recovering() {
		return 0
	}
	return p.Rate()
}

// RTT returns how long it takes from sending a packet until its arrival is reported.
func (p *Packets) RTT() time.Duration { return p.rtt }

// Look notices that reports stay away. It is called often, whether reports come or not; sending tells whether packets have left
// that could be reported.
func (p *Packets) Look(now time.Duration, sending bool) {
	p.control.look(now, sending, p.arrived(carrying))
}

// Report takes what became of packets, in the order of sending.
func (p *Packets) Report(now time.Duration, packets []Arrival) {
	if p.control.heard(now) {
		p.resumed = now
		p.delays, p.arrivals, p.losses = p.delays[:0], p.arrivals[:0], p.losses[:0]
	}
	p.note(now, packets)
	if len(p.delays) < 2 {
		return
	}
	p.control.step(now, sight{queue: p.queue(), lost: p.loss(), arrives: p.arrived(seen), carried: p.arrived(carrying), rtt: p.rtt})
}

// note takes packets into the windows.
func (p *Packets) note(now time.Duration, packets []Arrival) {
	l := losses{at: now}
	for _, a := range packets {
		if a.Sent < p.resumed {
			continue
		}
		l.total++
		if a.Lost {
			l.lost++
			continue
		}
		took := a.Arrived - a.Sent
		p.base.put(a.Sent, took)
		p.delays = append(p.delays, delay{a.Arrived, took})
		p.arrivals = append(p.arrivals, arrival{a.Arrived, a.Bytes})
		p.newest = max(p.newest, a.Sent)
	}
	p.losses = append(p.losses, l)
	if rtt := now - p.newest; p.rtt == 0 {
		p.rtt = rtt
	} else {
		p.rtt += (rtt - p.rtt) / 8
	}
	last := time.Duration(0)
	if n := len(p.arrivals); n > 0 {
		last = p.arrivals[n-1].at
	}
	if n := len(p.delays) - seenLeast; n > 0 {
		old := after(p.delays[:n:n], func(d delay) bool { return d.at > last-seen })
		p.delays = append(p.delays[:0], p.delays[n-len(old):]...)
	}
	p.arrivals = after(p.arrivals, func(a arrival) bool { return a.at > last-carrying })
	p.losses = after(p.losses, func(l losses) bool { return l.at > now-lossMemory })
}

// after returns all from the first that is kept on.
func after[T any](all []T, keep func(T) bool) []T {
	for i := range all {
		if keep(all[i]) {
			return append(all[:0], all[i:]...)
		}
	}
	return all[:0]
}

// queue returns the delay, in s, that every packet of the last moment had beyond the least.
func (p *Packets) queue() float64 {
	least := p.delays[0].took
	for _, d := range p.delays {
		least = min(least, d.took)
	}
	return (least - p.base.least()).Seconds()
}

// arrived returns the bit/s that arrived over the last d, at most carrying.
func (p *Packets) arrived(d time.Duration) float64 {
	n := len(p.arrivals)
	if n == 0 {
		return 0
	}
	bytes, last := 0, p.arrivals[n-1].at
	for i := n - 1; i >= 0 && p.arrivals[i].at > last-d; i-- {
		bytes += p.arrivals[i].bytes
	}
	return float64(bytes) * 8 / d.Seconds()
}

// loss returns the share of packets that were lost lately.
func (p *Packets) loss() float64 {
	lost, total := 0, 0
	for _, l := range p.losses {
		lost, total = lost+l.lost, total+l.total
	}
	if total < 20 {
		return 0
	}
	return float64(lost) / float64(total)
}

// A trough keeps the least delay of the last baseMemory and up to as much before.
type trough struct {
	now, past time.Duration
	begun     time.Duration
	filled    bool
}

func (w *trough) put(at, d time.Duration) {
	switch {
	case !w.filled:
		*w = trough{d, d, at, true}
	case at-w.begun > baseMemory:
		w.past, w.now, w.begun = w.now, d, at
	default:
		w.now = min(w.now, d)
	}
}

func (w *trough) least() time.Duration { return min(w.now, w.past) }
