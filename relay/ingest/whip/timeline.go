package whip

import "time"

// RTP times that run further than this ahead of the packets that carry them, or back, are taken for a new count.
const (
	maxAhead = 10 * time.Second
	maxBack  = 2 * time.Second
)

// A timeline maps RTP times of one track to the session's clock. The first packet stands at its arrival; from there on the
// publisher's own clock counts, however late packets come.
type timeline struct {
	rate    int64 // Hz
	begun   bool
	last    uint32
	ticks   int64         // of last, unwrapped
	base    time.Duration // where ticks 0 stands
	arrived time.Duration // of last
}

// at returns the PTS of the next packet in sequence order. jumped tells that the publisher's times made no sense any more and
// were joined to the ones before.
func (t *timeline) at(ts uint32, arrival time.Duration) (pts time.Duration, jumped bool) {
	if !t.begun {
		*t = timeline{rate: t.rate, begun: true, last: ts, base: arrival, arrived: arrival}
		return arrival, false
	}
	before := t.base + t.time(t.ticks)
	step, passed := t.time(int64(int32(ts-t.last))), arrival-t.arrived
	t.ticks += int64(int32(ts - t.last))
	t.last, t.arrived = ts, max(t.arrived, arrival)
	if step > passed+maxAhead || step < -maxBack {
		t.base = before + max(passed, time.Millisecond) - t.time(t.ticks)
		jumped = true
	}
	return t.base + t.time(t.ticks), jumped
}

// of returns the PTS of an RTP time close to the last packet's.
func (t *timeline) of(ts uint32) time.Duration {
	return t.base + t.time(t.ticks+int64(int32(ts-t.last)))
}

// time converts ticks without the overflow that nanoseconds × rate has after a day.
func (t *timeline) time(ticks int64) time.Duration {
	return time.Duration(ticks/t.rate)*time.Second + time.Duration(ticks%t.rate)*time.Second/time.Duration(t.rate)
}

// ntpEpoch is 1 January 1900 (RFC 5905 §6) in Unix seconds.
const ntpEpoch = -2208988800

// ntpTime reads a 64-bit NTP timestamp. false: it is not within a day of now, so its clock tells no wall time.
func ntpTime(ntp uint64, now time.Time) (time.Time, bool) {
	wall := time.Unix(int64(ntp>>32)+ntpEpoch, int64(ntp&0xffffffff)*1e9>>32)
	d := wall.Sub(now)
	return wall, d > -24*time.Hour && d < 24*time.Hour
}
