package whip

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// A tenth of the packets is lost, one comes twice, the count wraps, and the arrival of every other packet is 10 ms late.
func TestReceptionReport(t *testing.T) {
	var r reception
	seq, ts := uint16(65500), uint32(1<<32-1000)
	now := time.Second
	for i := range 100 {
		late := time.Duration(i%2) * 10 * time.Millisecond
		if i%10 != 5 {
			r.packet(seq, ts, now+late, 90000)
		}
		if i == 50 {
			r.packet(seq, ts, now+late, 90000)
		}
		seq, ts, now = seq+1, ts+3000, now+time.Second/30
	}
	r.senderReport, r.senderReportedAt = 0x12345678, now-500*time.Millisecond
	got := r.report(7, now)
	want := rtcp.ReceptionReport{SSRC: 7, FractionLost: 9 * 256 / 100, TotalLost: 9, LastSequenceNumber: 1<<16 + 65500 + 99 - 65536, LastSenderReport: 0x12345678, Delay: 32768}
	if ms := got.Jitter / 90; ms < 8 || ms > 10 {
		t.Errorf("jitter of %d ms", ms)
	}
	got.Jitter = 0
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// Since then nothing was lost.
	r.packet(seq, ts, now, 90000)
	if again := r.report(7, now); again.FractionLost != 0 || again.TotalLost != 9 {
		t.Errorf("%+v", again)
	}
	// A new count is no loss.
	r.packet(seq+20000, ts, now, 90000)
	if again := r.report(7, now); again.FractionLost != 0 || again.TotalLost != 0 {
		t.Errorf("%+v after a leap", again)
	}
}
