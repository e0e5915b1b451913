package whep

import (
	"math"
	"slices"
	"time"

	"gantry/internal/rtc"
)

// How a path is used.
const (
	unknownPace = 20_000_000             // bit/s beyond the first packets, as long as nothing is known of the path
	firstPacket = 64                     // packets that may leave at once then
	paceBurst   = 5 * time.Millisecond   // worth of the rate that may leave at once
	paceAhead   = 100 * time.Millisecond // worth of the rate that retransmissions may leave before their time
	paceMost    = 250 * time.Millisecond // what waits leaves within, whatever the estimate says
	probeSpan   = 25 * time.Millisecond  // of a probe
	probeLeast  = 10                     // packets: fewer, or some lost, can be too few for a train that tells something
	probeSoon   = 300 * time.Millisecond // to the next, after one that told something
	probeFirst  = time.Second            // and after one that did not
	probeLast   = 3 * time.Second        // after many
	retryClear  = 3 * time.Second        // without trouble before a thinned stream is tried whole
	retryFirst  = 6 * time.Second        // thin for so long at first
	retryLast   = 2 * time.Minute        // and after many attempts
	overfull    = time.Second            // until a stream that the path does not carry is thinned
	patient     = 4 * time.Second        // how old the key frame may become of who is sent nothing else
)

// A link is the path to one viewer as the loop uses it: what it carries, how fast to send, and whether only key frames are sent.
type link struct {
	estimate *estimator // nil: the viewer gives no transport-wide feedback
	pacer    pacer
	prober   prober
	told     int       // bit/s that the viewer has said by REMB; 0: nothing
	thin     bool      // key frames only: the path does not carry the smallest layer
	retry    time.Time // thin: then all is tried again
	patience time.Duration
	now      time.Time // of the current round
}

// A pacer spreads what is sent to a viewer whose path is narrow. In a round of the loop it spends what has been earned since the
// last; a path that is wide costs nothing.
type pacer struct {
	credit int // bytes
	earned time.Time
}

// pace returns the bits a second to send at most; 0 is any.
func (l *link) pace() int {
	switch {
	case l.estimate == nil:
		return 0
	case l.estimate.rate == 0:
		return unknownPace
	case l.estimate.rate >= wide && !l.estimate.limited:
		return 0
	case l.thin:
		return l.estimate.rate * 9 / 8 // nothing else waits for its end
	}
	return l.estimate.rate * 5 / 2
}

// allow returns how many packets may leave now of those that wait.
func (l *link) allow(waiting int) int {
	rate := l.pace()
	if rate == 0 || waiting == 0 {
		return math.MaxInt
	}
	if !l.thin {
		rate = max(rate, int(int64(waiting)*mtu*8*int64(time.Second)/int64(paceMost)))
	}
	l.pacer.earn(rate, l.now)
	return max(0, l.pacer.credit/mtu)
}

// spare tells whether there is room for a packet that was asked for again: such may be ahead of the pace a little.
func (l *link) spare() bool {
	rate := l.pace()
	if rate == 0 {
		return true
	}
	l.now = time.Now()
	l.pacer.earn(rate, l.now)
	return l.pacer.credit > -worth(rate, paceAhead)
}

// earn adds what may be sent since the last time.
func (p *pacer) earn(rate int, now time.Time) {
	most := max(worth(rate, paceBurst), 4*mtu)
	switch {
	case p.earned.IsZero():
		p.credit = firstPacket * mtu
	case p.credit < most:
		p.credit = max(p.credit, -2*worth(rate, paceAhead)) // as long as the path was wide nothing was earned
		p.credit = min(p.credit+worth(rate, min(now.Sub(p.earned), time.Second)), most)
	}
	p.earned = now
}

// worth returns the bytes of a rate in bit/s that go in a time.
func worth(rate int, d time.Duration) int {
	return int(int64(rate) / 8 * int64(d) / int64(time.Second))
}

// mtu is the size that a packet is reckoned with, in bytes.
const mtu = 1200

// number counts a packet of size bytes that is sent now, and returns its transport-wide sequence number.
func (l *link) number(size int) uint16 {
	l.pacer.credit -= size
	return l.estimate.log.number(l.now, size, l.prober.begun)
}

// A prober sends packets again where more is to be known of a path than the stream itself shows.
type prober struct {
	rate  int  // bit/s of the probe that is being sent
	left  int  // bytes of it
	count int  // packets that it has at least still; 0 as left: there is no probe
	begun bool // some of it has been sent
	debt  int  // bytes that may be sent now
	at    time.Time
	from  uint64 // index behind the one to send next

	next time.Time     // when another may begin
	wait time.Duration // from that one to the one after it
	knew int           // the estimate when it was sent
}

func (p *prober) probing() bool { return p.left > 0 || p.count > 0 }

// sent counts size bytes of the probe.
func (p *prober) sent(size int) {
	p.debt -= size
	p.left, p.count = max(0, p.left-size), max(0, p.count-1)
	p.begun = p.probing()
}

// prepare begins a probe when one is due and the path is wanted to carry more than is known that it does.
func (p *prober) prepare(e *estimator, want int, o *outTrack, now time.Time) {
	if p.probing() || want <= e.rate || now.Before(p.next) || now.Before(e.held) || o.rtxPT == 0 || o.packets == 0 {
		return
	}
	if e.rate > p.knew+p.knew/5 {
		p.wait = probeSoon
	} else {
		p.wait = min(max(p.wait+p.wait/2, probeFirst), probeLast)
	}
	known := max(e.rate, e.arrived.rate(e.arrived.slot*arrivalSlot), 300_000)
	*p = prober{rate: min(want, known*5/2), count: probeLeast, from: o.sentEnd(), at: now, next: now.Add(p.wait), wait: p.wait, knew: e.rate}
	p.left = worth(p.rate, probeSpan)
}

// sentEnd returns the index behind the newest packet that was sent: of one that was not, the sequence number is still free.
func (o *outTrack) sentEnd() uint64 { return o.last + 1 - o.shift }

// probe sends what is due of a probe: the newest packets once more. It returns whether there is more to come.
func (v *viewer) probe(f *fan) bool {
	p, o := &v.link.prober, v.video
	if !p.probing() || o == nil {
		return false
	}
	p.debt += worth(p.rate, v.link.now.Sub(p.at))
	p.at = v.link.now
	for tried := 0; p.debt >= 0 && p.probing(); tried++ {
		if tried == sentKept/4 {
			p.left, p.count, p.begun = 0, 0, false // there is nothing to send
			break
		}
		end := o.sentEnd()
		if p.from--; p.from >= end || p.from+trainMost < end || p.from < o.history.oldest || p.from+o.shift < o.since {
			p.from = end
			continue
		}
		e := o.history.at(p.from)
		if e == nil || len(e.data) < 200 && tried < trainMost {
			continue
		}
		v.again(f, o, e, p.from+o.shift)
		f.count.Probes++
		p.sent(len(e.data))
	}
	return p.probing()
}

// follow keeps the viewer's adapter told of what the path carries, thins the stream where it does not carry it, and looks
// whether it carries more again.
func (f *fan) follow(v *viewer, now time.Time) {
	l := &v.link
	e := l.estimate
	if v.video == nil || e == nil {
		v.adapter.limit = l.told
		return
	}
	e.tick(now)
	v.adapter.carries, v.adapter.limit = max(e.rate, 1), 0
	if e.limited {
		v.adapter.limit = e.rate
	}
	h := v.video.history
	need := h.rate.bitrate + h.rate.bitrate/20
	up := f.larger(v, now)
	switch {
	case l.thin && (e.rate >= need && !now.Before(e.held) || !e.limited):
		l.thin = false // goes on at the next key frame
	case l.thin && now.Sub(e.held) > retryClear && now.After(l.retry): // little is sent, and little learned: try
		l.thin = false
	case !l.thin && e.limited && e.rate < need && e.congested(now, overfull) && f.smallest(v, now):
		l.thin = true
		l.patience = min(max(2*l.patience, retryFirst), retryLast)
		l.retry = now.Add(l.patience)
		f.count.Thinned++
		v.waiting, v.from, v.until = true, h.next, time.Time{}
	}
	want := 0
	switch {
	case l.thin, e.limited && e.rate < need:
		want = need + need/8
	case up > 0:
		want = up + up/4
	}
	l.prober.prepare(e, want, v.video, now)
}

// larger returns the bit rate of the layer above v's, if it may have that; else 0.
func (f *fan) larger(v *viewer, now time.Time) int {
	if v.wish.rid != "" {
		return 0
	}
	live := ladder(v.layers, now)
	if i := slices.Index(live, v.video.history); i >= 0 && i+1 < len(live) && v.wish.allows(live[i+1]) {
		return live[i+1].rate.bitrate
	}
	return 0
}

// smallest tells whether there is no layer below v's that it may have.
func (f *fan) smallest(v *viewer, now time.Time) bool {
	return v.wish.rid != "" || slices.Index(ladder(v.layers, now), v.video.history) <= 0
}

// feedback takes a viewer's transport-wide feedback, a copy. It has time until the loop's next round.
func (s *session) feedback(v *viewer, b []byte) {
	now := time.Now()
	s.fan.later(func() {
		if e := v.link.estimate; e != nil {
			e.hear(b, now)
		}
	})
}

// content tells whether a viewer that is sent key frames alone has one that is new enough for it: its wish is not passed on then.
func (l *link) content(h *history, now time.Time) bool {
	e := h.at(h.key)
	return l.thin && now.Sub(h.arrived) < paused && e != nil && h.newest-e.pts < patient
}

// take gives v another path. What was known of the last one says nothing of it.
func (v *viewer) take(p rtc.Path) {
	v.path = p
	if v.link.estimate != nil {
		v.link.estimate.forget()
	}
}
