package whip

import (
	"syscall"
	"testing"
	"time"
)

// What a packet costs between pion and the Hub. 4 Mbit/s are some 450 a second.
func BenchmarkReceive(b *testing.B) {
	units := record(b, "640x360", plain)
	l := newLane(b, avc())
	payloads := make([][]byte, 8)
	for i := range payloads {
		payloads[i] = make([]byte, 1100)
		payloads[i][0], payloads[i][1] = 0x5c, 0x01 // FU-A of a slice
	}
	payloads[0][1] = 0x81
	l.send(units[0])
	b.ReportAllocs()
	b.SetBytes(1100)
	i := 0
	for b.Loop() {
		if i%8 == 0 {
			l.ts += 3000
			l.now += time.Second / 30
		}
		l.s.receive(l.s.tracks[0], 96, piece{seq: l.seq, ts: l.ts, marker: i%8 == 7, arrival: l.now}, payloads[i%8])
		l.seq++
		i++
	}
}

// What a packet costs in all, over loopback: pion's sender, the kernel both ways, ICE, SRTP, interceptors, and the path to the
// Hub. cpu-ns/op is of the whole process, sender included.
func BenchmarkLoopback(b *testing.B) {
	srv := start(b, Access{})
	p := newSimplePeer(b)
	p.addVideo()
	p.publish(srv, "/whip/s", nil)
	p.send(record(b, "640x360", plain)[0], 3000)
	slice := make([]byte, 1100)
	slice[0], slice[1] = 0x41, 0x9a
	au := append([]byte{0, 0, 0, 1}, slice...)
	received := srv.server.Counters().Packets.Load
	for received() == 0 {
		time.Sleep(time.Millisecond)
	}
	cpu := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.SetBytes(1100)
	b.ReportAllocs()
	began, base := cpu(), received()
	sent := uint64(0)
	for b.Loop() {
		p.send(au, 3000)
		if sent++; sent%32 == 0 { // the socket's buffer is no queue to measure
			for limit := time.Now().Add(time.Second); received()-base+32 < sent && time.Now().Before(limit); {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	b.ReportMetric(float64(cpu()-began)/float64(b.N), "cpu-ns/op")
}
