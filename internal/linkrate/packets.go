package linkrate

import "time"

const (
	seen         = 150 * time.Millisecond // of arrival: the least delayed of its packets shows whether a queue stands
	seenLeast    = 3                      // packets
	arriving     = 250 * time.Millisecond // over which the rate of arrival is measured
	lossMemory   = time.Second
	baseMemory   = 15 * time.Second // how long the least delay counts, at least; clocks drift apart by a millisecond in it
	standing     = 20 * time.Millisecond
	usualMemory  = 5 * time.Second // of the delay that a path has without being full: jitter
	settle       = 200 * time.Millisecond
	rest         = 400 * time.Millisecond // after congestion, before the rate grows
	quiet        = 600 * time.Millisecond // without a report: nothing arrives there, or nothing comes back
	longStall    = 150 * time.Millisecond // a longer gap between looks is this machine's own, and counts as this
	fastGrowth   = 1.0                    // a second
	kneeGrowth   = 0.08                   // a second, at the rate at which the path was full
	kneeWidth    = 0.5                    // off it, as a share, growth is as fast as elsewhere
	kneeMemory   = time.Minute
	tightMemory  = 10 * time.Second
	randomLoss   = 0.15 // share lost, without delay, that says nothing of the rate; it may be taught to be more
	moreLoss     = 0.05 // share lost more than usual that says, with some delay, that the path is full
	mostRandom   = 0.5
	tryBeyond    = 1.3 // of what arrives: the rate does not grow beyond what was put to the test
	tryMore      = 150_000
	forget       = 30 * time.Second // the rate to return to, where the path is full before it is reached
	returnFactor = 0.5              // of the rate before a silence: where to begin after it
	notOurs      = 1                // steps down that left the queue as it was: it is another's
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
// but never all. What arrives while a queue stands is what the path carries. Loss without delay is the path's own and says
// nothing, unless there is much and it goes with the rate.
//
// The zero value is not usable. One goroutine uses it at a time; now is on the sender's clock.
type Packets struct {
	floor, ceiling float64
	target         float64 // bit/s

	base      trough // least delay
	delays    []delay
	newest    time.Duration // Sent of the newest that arrived
	arrivals  []arrival
	losses    []losses
	rtt       time.Duration // of a report: round trip, and how long it waited to be sent
	usual     float64       // s of delay in excess of the least, while all is well
	usualLost float64       // share
	reports   int

	reported time.Duration // when the last report came
	looked   time.Duration
	waited   time.Duration // without a report
	silent   bool
	resumed  time.Duration // what was sent before does not count as lost

	bad       time.Duration // when the path was last full; negative: never
	stepped   time.Duration
	knee      float64 // what was sent when it began to be full
	before    float64 // target to return to
	queued    float64 // s of delay at the last step
	fruitless int
	policed   policed
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

// A policed is what is known of loss without delay.
type policed struct {
	tolerated float64
	stepped   time.Duration // when the rate was lowered for it, 0: not
	loss      float64       // at that time
	before    float64       // target before it
}

// NewPackets returns a Packets that begins at start, all in bit/s.
func NewPackets(start, floor, ceiling int) *Packets {
	p := &Packets{floor: float64(floor), ceiling: float64(ceiling), bad: -time.Hour, stepped: -time.Hour}
	p.target = p.within(float64(start))
	p.before = p.target
	p.policed.tolerated = randomLoss
	return p
}

func (p *Packets) within(rate float64) float64 { return min(max(rate, p.floor), p.ceiling) }

// Rate returns how many bit/s the path carries.
func (p *Packets) Rate() int { return int(p.target) }

// Full tells that a queue stands on the way: nothing shall be sent beyond Rate now.
func (p *Packets) Full() bool { return p.reported-p.bad < rest || p.silent }

// Tight tells that the path was full lately and has not shown since that it carries what it did before: bursts may fill it again.
func (p *Packets) Tight() bool { return p.target < p.before && p.reported-p.bad < tightMemory }

// Recovering returns how many bit/s to fill up to while the rate has not come back to what it was, 0 when it has: what is not
// sent is not put to the test.
func (p *Packets) Recovering() int {
	if p.silent || p.target >= p.before || p.reported-max(p.bad, p.stepped) < rest {
		return 0
	}
	return int(p.target)
}

// RTT returns how long it takes from sending a packet until its arrival is reported.
func (p *Packets) RTT() time.Duration { return p.rtt }

// Look notices that reports stay away. It is called often, whether reports come or not; sending tells whether packets have left
// that could be reported.
func (p *Packets) Look(now time.Duration, sending bool) {
	if sending {
		p.waited += min(now-p.looked, longStall)
	}
	p.looked = now
	if p.reports > 0 && p.waited > quiet && !p.silent {
		p.silent = true
		p.before = max(p.before, p.target)
		p.target = p.floor
	}
}

// Report takes what became of packets, in the order of sending.
func (p *Packets) Report(now time.Duration, packets []Arrival) {
	passed := min(now-p.reported, 2*longStall)
	p.reported, p.waited = now, 0
	p.reports++
	if p.silent {
		p.silent, p.resumed = false, now
		p.delays, p.arrivals, p.losses = p.delays[:0], p.arrivals[:0], p.losses[:0]
		p.target = p.within(p.before * returnFactor)
	}
	p.note(now, packets)
	q, ok := p.queue()
	if !ok {
		return
	}
	lost := p.loss()
	excess := (q - p.usual) / standing.Seconds() // 1: full
	switch {
	case excess > 1 || excess > 0.5 && lost > p.usualLost+moreLoss:
		p.full(now, q, lost)
	case lost > p.policed.tolerated:
		p.lossy(now, lost)
	default:
		p.well(now, passed, max(excess, (lost-p.usualLost)/moreLoss), lost)
	}
	if p.reported-p.bad >= rest { // what the path does when it is not full
		weight := max(passed.Seconds()/usualMemory.Seconds(), 1/float64(min(p.reports, 1000)))
		p.usual += min(weight, 1) * (q - p.usual)
		p.usualLost += min(weight, 1) * (lost - p.usualLost)
	}
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
	p.arrivals = after(p.arrivals, func(a arrival) bool { return a.at > last-2*arriving })
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
func (p *Packets) queue() (float64, bool) {
	if len(p.delays) < 2 {
		return 0, false
	}
	least := p.delays[0].took
	for _, d := range p.delays {
		least = min(least, d.took)
	}
	return (least - p.base.least()).Seconds(), true
}

// arrived returns the bit/s that arrived over the last d, at most 2*arriving.
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

// full lowers the rate so that a queue of q seconds drains.
func (p *Packets) full(now time.Duration, q, lost float64) {
	since := now - p.bad
	fresh := since > rest
	p.bad, p.policed.stepped = now, 0
	switch {
	case fresh:
		p.knee, p.fruitless = min(p.target, p.arrived(2*arriving)), 0
		p.before = max(p.target, p.before*(1-min(since, forget/3).Seconds()/forget.Seconds()))
	case now-p.stepped < p.rtt+settle || q < 0.9*p.queued: // the last step has not shown yet, or is enough
		return
	case lost < p.usualLost+moreLoss:
		if p.fruitless++; p.fruitless > notOurs {
			p.usual = q
			return
		}
	}
	p.stepped, p.queued = now, q
	p.target = p.within(min(p.target, p.arrived(seen)*(0.95-min(q, 0.3))))
}

// lossy lowers the rate for loss without delay, and takes that back where the loss stays.
func (p *Packets) lossy(now time.Duration, lost float64) {
	l := &p.policed
	switch {
	case l.stepped == 0:
		l.before = p.target
	case now-l.stepped < p.rtt+lossMemory+settle:
		l.loss = max(l.loss, lost)
		return
	case lost > 0.75*l.loss:
		l.tolerated, l.stepped = min(mostRandom, 1.3*lost), 0
		p.target = l.before
		return
	}
	l.stepped, l.loss = now, lost
	p.bad, p.stepped = now, now
	p.knee = p.arrived(arriving)
	p.before = max(p.before, p.target)
	p.target = p.within(min(p.target, 0.95*p.knee))
}

// well lets the rate grow. filled is how near the path is to what counts as full, which is 1.
func (p *Packets) well(now, passed time.Duration, filled, lost float64) {
	if l := &p.policed; lost < l.tolerated/2 {
		l.stepped = 0
		l.tolerated = max(randomLoss, l.tolerated*(1-passed.Seconds()/10))
	}
	if now-p.bad < rest || now-p.stepped < rest+p.rtt {
		return
	}
	growth := fastGrowth
	if off := (p.target/max(p.knee, 1) - 1) / kneeWidth; now-p.bad < kneeMemory {
		growth = min(kneeGrowth+fastGrowth*off*off, fastGrowth)
	}
	next := p.target * (1 + growth*passed.Seconds()*min(max(1-filled, 0.1), 1))
	if next = min(next, tryBeyond*p.arrived(2*arriving)+tryMore); next > p.target {
		p.target = p.within(next)
	}
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
