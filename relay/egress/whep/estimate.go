package whep

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"
)

// Bounds of the estimate of a path.
const (
	sentKept  = 1024             // packets whose feedback is waited for, a power of two
	wide      = 20_000_000       // bit/s from which on a path is not a matter of concern
	tooFast   = 100_000_000      // bit/s that arrival times of a quarter of a millisecond cannot tell from more
	judged    = 200_000          // µs of arrival between two looks at queue and loss
	queued    = 60_000           // µs that the least delayed packet of a while waits where a queue stands
	flooded   = 0.2              // share of packets lost that says the same; less may be the radio's
	heldDown  = 2 * time.Second  // after a cut, before the estimate may rise
	trainGap  = 5_000            // µs between packets that ends a train
	trainLong = 60_000           // µs
	trainMost = 64               // packets
	drift     = 30 * time.Second // half of the time after which the shortest way is forgotten
	slot      = 150_000          // µs
)

// An estimator tells how many bits a second the path to one viewer carries, from transport-wide feedback
// (draft-holmer-rmcat-transport-wide-cc-extensions-01). Packets that left together and arrive apart show the rate of the
// narrowest link. That the link is full is seen by a queue in which even the luckiest packet waits, or by heavy loss; the rate
// at which packets then arrive is what it carries. It has no clock and belongs to the fan's loop.
type estimator struct {
	rate    int       // bit/s; 0: not known yet
	limited bool      // rate was found by filling the path; else it may carry more
	full    time.Time // since when it is being found full; zero: it is not
	held    time.Time // until then rate does not rise

	log     sendLog
	arrived arrivals
	queue   standing
	train   train

	lost, told int   // packets since the last judgement
	judgedAt   int64 // µs of arrival
}

// sendLog remembers when packets were sent, by their transport-wide sequence number.
type sendLog struct {
	ring  []sentPacket // nil: nothing is numbered
	next  uint16
	heard uint16 // the newest that feedback has spoken of
	any   bool   // it has
	epoch time.Time
	begun uint32 // µs: when the current train began
	count int    // its packets
}

type sentPacket struct {
	at    uint32 // µs since the epoch
	size  uint16 // 0: arrived, or never sent
	first bool   // of a train
}

// number returns the sequence number of a packet of size bytes that is sent now. Packets with join belong to the train of the
// one before, however long ago that was.
func (l *sendLog) number(now time.Time, size int, join bool) uint16 {
	at := uint32(now.Sub(l.epoch).Microseconds())
	last := l.ring[(l.next-1)&(sentKept-1)].at
	l.count++
	first := at-last > trainGap && !join || at-l.begun > trainLong && !join || l.count > trainMost
	if first {
		l.begun, l.count = at, 1
	}
	l.ring[l.next&(sentKept-1)] = sentPacket{at: at, size: uint16(min(size, 1<<16-1)), first: first}
	l.next++
	return l.next - 1
}

// take returns the record of a packet that has been reported, once; nil for one that is not known.
func (l *sendLog) take(seq uint16) *sentPacket {
	if age := l.next - seq; age == 0 || age > sentKept {
		return nil
	}
	return &l.ring[seq&(sentKept-1)]
}

func newEstimator(now time.Time) *estimator {
	return &estimator{log: sendLog{ring: make([]sentPacket, sentKept), epoch: now}}
}

// isFeedback tells whether an RTCP packet is one of transport-wide feedback and nothing else, as browsers send it. Most are
// padded.
func isFeedback(b []byte) bool {
	return len(b) >= feedbackHeader && b[0]&^padded == 2<<6|rtcp.FormatTCC && b[1] == uint8(rtcp.TypeTransportSpecificFeedback) && len(b) == 4+4*int(binary.BigEndian.Uint16(b[2:]))
}

const (
	feedbackHeader = 20     // bytes
	padded         = 1 << 5 // of an RTCP header's first byte: the last byte says how many at the end are none of it
)

// hear takes feedback that came now (§3.1 of the draft). It is read in place: some ten come from each viewer each second.
func (e *estimator) hear(b []byte, now time.Time) {
	if !isFeedback(b) {
		return
	}
	seq, left := binary.BigEndian.Uint16(b[12:]), int(binary.BigEndian.Uint16(b[14:]))
	if left > 4*sentKept {
		return // more than anybody has been sent
	}
	at := int64(binary.BigEndian.Uint32(b[16:])>>8) * 64_000 // µs
	chunks, deltas := splitFeedback(b[feedbackHeader:], left)
	for ; left > 0 && len(chunks) >= 2; chunks = chunks[2:] {
		c := statuses(binary.BigEndian.Uint16(chunks))
		n := min(c.len(), left)
		left -= n
		for i := range n {
			size := c.deltaSize(i)
			if len(deltas) < size {
				return
			}
			switch size {
			case 1:
				at += int64(deltas[0]) * 250
			case 2:
				at += int64(int16(binary.BigEndian.Uint16(deltas))) * 250
			}
			deltas = deltas[size:]
			e.packet(seq, at, size > 0, now)
			seq++
		}
	}
}

// splitFeedback returns the chunks for so many packets, and the deltas of arrival behind them.
func splitFeedback(b []byte, packets int) (chunks, deltas []byte) {
	end := 0
	for ; packets > 0 && end+2 <= len(b); end += 2 {
		packets -= statuses(binary.BigEndian.Uint16(b[end:])).len()
	}
	return b[:end], b[end:]
}

// Statuses, a chunk, say of some packets in a row whether they came, and how large their deltas are: as a run of equal ones, or one by one.
type statuses uint16

func (c statuses) len() int {
	switch c >> 14 {
	case 2:
		return 14
	case 3:
		return 7
	}
	return max(1, int(c&0x1fff)) // no run is endless
}

// deltaSize returns the bytes of the delta of packet i: 0 for one that did not come.
func (c statuses) deltaSize(i int) int {
	symbol := c >> 13 & 3
	switch c >> 14 {
	case 2:
		symbol = c >> (13 - i) & 1
	case 3:
		symbol = c >> (12 - 2*i) & 3
	}
	if symbol > 2 {
		return 0
	}
	return int(symbol)
}

// packet takes what was reported of one packet.
func (e *estimator) packet(seq uint16, at int64, came bool, now time.Time) {
	s := e.log.take(seq)
	if s == nil {
		return
	}
	fresh := !e.log.any || int16(seq-e.log.heard) > 0
	if fresh {
		e.log.heard, e.log.any = seq, true
		e.told++
		if !came {
			e.lost++
		}
	}
	if !came || s.size == 0 {
		return
	}
	if !fresh && e.lost > 0 {
		e.lost-- // only late
	}
	size, sent := int(s.size), int64(s.at)
	s.size = 0
	e.arrived.add(at, size)
	e.queue.add(at-sent, at, now)
	if s.first || !fresh {
		e.measure(now)
	}
	if fresh {
		e.train.add(sent, at, size, now)
	}
	if at-e.judgedAt > judged || at < e.judgedAt {
		e.judge(at, now)
	}
}

// judge looks whether the path is full, and cuts the rate where it is.
func (e *estimator) judge(at int64, now time.Time) {
	congested := e.queue.standing() > queued || e.told >= 20 && float64(e.lost) > flooded*float64(e.told)
	e.lost, e.told, e.judgedAt = 0, 0, at
	if !congested {
		e.full = time.Time{}
		return
	}
	if e.full.IsZero() {
		e.full = now // the second time counts
		return
	}
	got := e.arrived.rate(at)
	if now.Sub(e.train.measured) < time.Second {
		got = max(got, e.train.rate)
	}
	if got -= got / 20; got > 0 && (e.rate == 0 || got < e.rate || !e.limited) {
		e.rate = got
	}
	e.limited, e.held = true, now.Add(heldDown)
}

// measure ends the train that has been arriving, and learns from it.
func (e *estimator) measure(now time.Time) {
	p, dispersed, ok := e.train.end(now)
	switch {
	case !ok:
	case p > e.rate && now.Before(e.held):
	case e.rate == 0, p > e.rate && !dispersed:
		e.rate = p
	case p > e.rate:
		e.rate += (p - e.rate) / 2
	case dispersed:
		e.rate -= (e.rate - p) / 8
	}
	e.limited = e.limited && e.rate < wide
}

// tick ends a train that nothing follows.
func (e *estimator) tick(now time.Time) {
	if e.train.count > 0 && now.Sub(e.train.touched) > slot*time.Microsecond {
		e.measure(now)
	}
}

// congested tells whether the path has been full for so long.
func (e *estimator) congested(now time.Time, long time.Duration) bool {
	return !e.full.IsZero() && now.Sub(e.full) > long
}

// arrivals counts bytes by time of arrival, in slots of 50 ms.
type arrivals struct {
	bytes [10]int
	slot  int64 // the newest
}

const arrivalSlot = 50_000 // µs

func (a *arrivals) add(at int64, size int) {
	a.turn(at / arrivalSlot)
	if s := at / arrivalSlot; s > a.slot-int64(len(a.bytes)) {
		a.bytes[uint64(s)%uint64(len(a.bytes))] += size
	}
}

func (a *arrivals) turn(slot int64) {
	if slot-a.slot >= int64(len(a.bytes)) || a.slot-slot >= int64(len(a.bytes)) {
		a.bytes, a.slot = [10]int{}, slot
	}
	for a.slot < slot {
		a.slot++
		a.bytes[uint64(a.slot)%uint64(len(a.bytes))] = 0
	}
}

// rate returns the bits a second that arrived lately: in the whole slots, without the current one.
func (a *arrivals) rate(at int64) int {
	a.turn(at / arrivalSlot)
	sum := -a.bytes[uint64(a.slot)%uint64(len(a.bytes))]
	for _, n := range a.bytes {
		sum += n
	}
	return sum * 8 * int(time.Second/time.Microsecond) / ((len(a.bytes) - 1) * arrivalSlot)
}

// standing finds the queue that stands: how much longer than the shortest way packets take at least. The clocks of both ends
// are unknown to each other; only differences count. In µs.
type standing struct {
	base  [2]int64  // shortest way, of this half of the memory and of the one before
	since time.Time // of this half
	least [2]int64  // of the current slot, and of the one before
	slot  int64
}

func (s *standing) add(way, at int64, now time.Time) {
	if s.since.IsZero() {
		s.base, s.least = [2]int64{way, way}, [2]int64{way, way}
		s.since = now
	}
	if now.Sub(s.since) > drift {
		s.base[1], s.base[0], s.since = s.base[0], way, now
	}
	s.base[0] = min(s.base[0], way)
	if n := at / slot; n != s.slot {
		s.slot, s.least[1], s.least[0] = n, s.least[0], way
	}
	s.least[0] = min(s.least[0], way)
}

func (s *standing) standing() int64 {
	return min(s.least[0], s.least[1]) - min(s.base[0], s.base[1])
}

// A train is packets that left one soon after another. Times in µs.
type train struct {
	count, bytes int // bytes without the first packet's
	sent, at     [2]int64
	touched      time.Time
	rate         int       // of the last one
	measured     time.Time // then
}

func (t *train) add(sent, at int64, size int, now time.Time) {
	if t.count == 0 {
		t.bytes, t.sent[0], t.at[0] = -size, sent, at
	}
	t.count++
	t.bytes += size
	t.sent[1], t.at[1], t.touched = sent, at, now
}

// end returns the rate at which the train came, and whether it came slower than it went; ok is false when it was too short to
// tell.
func (t *train) end(now time.Time) (rate int, dispersed, ok bool) {
	went, came := t.sent[1]-t.sent[0], t.at[1]-t.at[0]
	span := max(went, came, 500)
	ok = t.count >= 8 || t.bytes >= 2000 && span >= 15_000
	rate = min(t.bytes*8*int(time.Second/time.Microsecond)/int(span), tooFast)
	t.count = 0
	if ok = ok && rate > 0; ok {
		t.rate, t.measured = rate, now
	}
	return rate, came > went+went/4+1000, ok
}

// forget begins anew, as for another path. What was sent by the last one is not known any more.
func (e *estimator) forget() {
	next, epoch := e.log.next, e.log.epoch
	clear(e.log.ring)
	*e = estimator{log: sendLog{ring: e.log.ring, next: next, epoch: epoch}}
}
