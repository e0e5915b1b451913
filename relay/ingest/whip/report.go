package whip

import (
	"time"

	"github.com/pion/rtcp"
)

// A reception is what receiver reports tell of an SSRC (RFC 3550 §6.4.1).
type reception struct {
	begun            bool
	base, newest     uint32 // sequence numbers, extended
	received         uint32
	expectedThen     uint32 // at the last report
	receivedThen     uint32
	transit          uint32  // of the last packet, in ticks of its clock
	jitter           float64 // in ticks
	senderReport     uint32  // the middle of its NTP time
	senderReportedAt time.Duration
}

// packet counts a packet that arrived now (RFC 3550 §A.1 and §A.8); rate is its clock's.
func (r *reception) packet(seq uint16, ts uint32, now time.Duration, rate int) {
	transit := uint32(uint64(now.Microseconds())*uint64(rate)/1e6) - ts
	step := int16(seq - uint16(r.newest))
	if !r.begun || step > maxLeap || step < -maxLeap {
		*r = reception{begun: true, base: uint32(seq), newest: uint32(seq), received: 1, transit: transit,
			senderReport: r.senderReport, senderReportedAt: r.senderReportedAt}
		return
	}
	if step > 0 {
		r.newest += uint32(step)
	}
	r.received++
	d := int32(transit - r.transit)
	r.transit = transit
	r.jitter += (float64(max(d, -d)) - r.jitter) / 16
}

// report returns what is to be told now (RFC 3550 §A.3).
func (r *reception) report(ssrc uint32, now time.Duration) rtcp.ReceptionReport {
	expected := r.newest - r.base + 1
	want, got := expected-r.expectedThen, r.received-r.receivedThen
	r.expectedThen, r.receivedThen = expected, r.received
	out := rtcp.ReceptionReport{SSRC: ssrc, LastSequenceNumber: r.newest, Jitter: uint32(r.jitter)}
	if want > got && int32(want) > 0 {
		out.FractionLost = uint8(min((want-got)<<8/want, 255))
	}
	if expected > r.received {
		out.TotalLost = min(expected-r.received, 1<<23-1)
	}
	if r.senderReport != 0 {
		out.LastSenderReport = r.senderReport
		out.Delay = uint32((now - r.senderReportedAt) * 65536 / time.Second)
	}
	return out
}

// reports returns the receiver report of a session, nil as long as nothing has come. The session is locked.
func (s *session) reports(now time.Duration) rtcp.Packet {
	r := &rtcp.ReceiverReport{SSRC: s.ssrc}
	for _, t := range s.tracks {
		if t.reception.begun && len(r.Reports) < 31 {
			r.Reports = append(r.Reports, t.reception.report(t.ssrc, now))
		}
	}
	if r.Reports == nil {
		return nil
	}
	return r
}
