package whep

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// A wire is a path with one narrow link and a queue, without a clock: an estimator sends by it and hears what came.
type wire struct {
	t       *testing.T
	e       *estimator
	now     time.Time
	rate    int           // bit/s
	delay   time.Duration // there
	queue   time.Duration
	skew    time.Duration // of the receiver's clock
	free    time.Time
	asleep  func(time.Time) bool // the receiver's machine gives it no time: what comes is seen, and told of, when it wakes
	arrived []arrival
}

type arrival struct {
	seq uint16
	at  time.Time // zero: lost
}

func newWire(t *testing.T, rate int) *wire {
	now := time.Unix(1000, 0)
	return &wire{t: t, e: newEstimator(now), now: now, rate: rate, delay: 20 * time.Millisecond, queue: 200 * time.Millisecond, skew: 1234 * time.Second}
}

// send puts n packets of 1200 bytes on the wire now.
func (w *wire) send(n int) {
	for range n {
		seq := w.e.log.number(w.now, 1200, false)
		if w.free.Before(w.now) {
			w.free = w.now
		}
		if w.free.Sub(w.now) > w.queue {
			w.arrived = append(w.arrived, arrival{seq: seq})
			continue
		}
		w.free = w.free.Add(time.Duration(1200 * 8 * int64(time.Second) / int64(w.rate)))
		at := w.free.Add(w.delay)
		for w.asleep != nil && w.asleep(at) {
			at = at.Add(time.Millisecond)
		}
		w.arrived = append(w.arrived, arrival{seq, at})
	}
}

// report hands the estimator feedback about all that has arrived by now, as a receiver writes it.
func (w *wire) report() {
	n := 0
	for n < len(w.arrived) && !w.arrived[n].at.After(w.now) {
		n++
	}
	if n == 0 {
		return
	}
	const unit = 64 * time.Millisecond
	first := slices.IndexFunc(w.arrived[:n], func(a arrival) bool { return !a.at.IsZero() })
	if first < 0 {
		first = 0
	}
	clock := func(t time.Time) time.Duration { return t.Add(w.skew).Sub(time.Unix(0, 0)) }
	last := clock(w.arrived[first].at) / unit * unit
	p := &rtcp.TransportLayerCC{BaseSequenceNumber: w.arrived[0].seq, PacketStatusCount: uint16(n), ReferenceTime: uint32(last/unit) & 0xffffff}
	for _, a := range w.arrived[:n] {
		symbol := uint16(rtcp.TypeTCCPacketNotReceived)
		if !a.at.IsZero() {
			symbol = rtcp.TypeTCCPacketReceivedLargeDelta
			d := (clock(a.at) - last) / (250 * time.Microsecond)
			p.RecvDeltas = append(p.RecvDeltas, &rtcp.RecvDelta{Type: symbol, Delta: int64(d) * 250})
			last += d * 250 * time.Microsecond
		}
		p.PacketChunks = append(p.PacketChunks, &rtcp.RunLengthChunk{PacketStatusSymbol: symbol, RunLength: 1})
	}
	w.arrived = w.arrived[n:]
	p.Header = rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: p.Len()/4 - 1, Padding: int(p.Len()) != p.MarshalSize()}
	b, err := p.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	w.e.hear(b, w.now)
	w.e.tick(w.now)
}

// stream sends pictures of a bit rate, 30 a second, and reports ten times a second.
func (w *wire) stream(bitrate int, d time.Duration) {
	for i := 0; d > 0; i++ {
		w.send((bitrate/30/8 + 1199) / 1200)
		if i%3 == 2 {
			w.report()
		}
		w.now = w.now.Add(time.Second / 30)
		d -= time.Second / 30
	}
}

func (w *wire) wants(what string, low, high int, limited bool) {
	w.t.Helper()
	if r := w.e.rate; r < low || r > high || w.e.limited != limited {
		w.t.Errorf("%s: %.2f Mbit/s, limited: %v; want %.2f to %.2f, %v", what, float64(r)/1e6, w.e.limited, float64(low)/1e6, float64(high)/1e6, limited)
	}
}

func TestEstimate(t *testing.T) {
	w := newWire(t, 1_000_000_000)
	w.stream(4_000_000, 2*time.Second)
	w.wants("a gigabit", wide, tooFast, false)

	w = newWire(t, 8_000_000)
	w.stream(4_000_000, 2*time.Second)
	w.wants("a path that is not filled", 7_500_000, 8_500_000, false)

	w = newWire(t, 5_000_000)
	w.stream(4_000_000, 2*time.Second)
	w.send(167) // a key frame of 200 kB at once
	w.stream(4_000_000, 3*time.Second)
	w.wants("a key frame that filled the queue for a while", 4_300_000, 5_200_000, true)

	w = newWire(t, 20_000_000)
	w.stream(4_000_000, 2*time.Second)
	w.rate = 2_000_000
	w.stream(4_000_000, 3*time.Second)
	w.wants("a path that has become narrow", 1_700_000, 2_200_000, true)
	if !w.e.congested(w.now, time.Second) {
		t.Error("it is not called full")
	}
	w.stream(500_000, 5*time.Second)
	w.wants("it is narrow still, and little is sent", 1_700_000, 2_200_000, true)
	if !w.e.full.IsZero() {
		t.Error("it is called full still")
	}
	w.rate = 20_000_000
	w.stream(4_000_000, 2*time.Second)
	w.wants("it has recovered", 5_000_000, tooFast, w.e.limited)

	w = newWire(t, 2_000_000)
	w.queue = 30 * time.Millisecond // a policer: no queue to see, but losses
	w.stream(4_000_000, 4*time.Second)
	w.wants("a path without a queue", 1_500_000, 2_200_000, true)
}

// stalls is a machine that gives no time for so long, so often.
func stalls(long, every time.Duration) func(time.Time) bool {
	return func(t time.Time) bool { return t.Sub(time.Unix(1000, 0))%every > every-long }
}

// A machine that others keep busy is no narrow path: neither when the receiver sleeps, nor when the relay does.
func TestEstimateOnABusyMachine(t *testing.T) {
	for _, stall := range []struct{ long, every time.Duration }{{200 * time.Millisecond, 500 * time.Millisecond}, {900 * time.Millisecond, 2 * time.Second}, {60 * time.Millisecond, 100 * time.Millisecond}} {
		for _, rate := range []int{8_000_000, 1_000_000_000} {
			w := newWire(t, rate)
			w.asleep = stalls(stall.long, stall.every)
			full := 0
			for range 600 { // 20 s
				w.stream(4_000_000, time.Second/30)
				if w.report(); w.e.limited || w.e.congested(w.now, 0) {
					full++
				}
			}
			if full > 0 || w.e.rate < 4_500_000 {
				t.Errorf("the receiver sleeps %v of %v on %d Mbit/s: %.2f Mbit/s, found full %d times", stall.long, stall.every, rate/1e6, float64(w.e.rate)/1e6, full)
			}
		}
		w := newWire(t, 1_000_000_000)
		asleep, waiting, full := stalls(stall.long, stall.every), 0, 0
		for range 600 {
			if waiting += 14; !asleep(w.now) {
				w.send(waiting)
				waiting = 0
				w.report()
			}
			if w.now = w.now.Add(time.Second / 30); w.e.limited {
				full++
			}
		}
		if full > 0 || w.e.rate < 4_500_000 {
			t.Errorf("the relay sleeps %v of %v: %.2f Mbit/s, found full %d times", stall.long, stall.every, float64(w.e.rate)/1e6, full)
		}
	}
}

// Sequence numbers and the receiver's clock go round.
func TestEstimateGoesRound(t *testing.T) {
	w := newWire(t, 8_000_000)
	w.e.log.next = 65000
	w.skew += time.Duration(1<<24)*64*time.Millisecond - w.skew - 1002*time.Second // ends two seconds after the beginning
	w.stream(4_000_000, 6*time.Second)
	w.wants("around", 7_500_000, 8_500_000, false)
}

func TestPace(t *testing.T) {
	now := time.Unix(1000, 0)
	l := link{now: now}
	if n := l.allow(200); n < 200 {
		t.Errorf("%d packets to a viewer that gives no feedback", n)
	}
	l.estimate = newEstimator(now)
	l.estimate.rate = wide
	if n := l.allow(200); n < 200 {
		t.Errorf("%d packets to a wide path", n)
	}
	// A key frame of 200 kB into 5 Mbit/s, in rounds of 2 ms.
	l.estimate.rate, l.estimate.limited = 5_000_000, true
	l.pacer = pacer{credit: 1, earned: now}
	left, rounds := 167, 0
	for ; left > 0 && rounds < 1000; rounds++ {
		n := min(l.allow(left), left)
		if n > 4 && rounds > 0 {
			t.Fatalf("%d packets at once", n)
		}
		for range n {
			l.number(1200)
		}
		left -= n
		l.now = l.now.Add(catching)
	}
	if took := time.Duration(rounds) * catching; took < 110*time.Millisecond || took > 160*time.Millisecond {
		t.Errorf("200 kB left in %v", took)
	}
	// What was sent while the path was wide is no debt.
	l.estimate.rate, l.estimate.limited = wide, false
	for range 100_000 {
		l.number(1200)
	}
	l.estimate.rate, l.estimate.limited = 1_000_000, true
	for rounds = 0; l.allow(100) == 0; rounds++ {
		l.now = l.now.Add(catching)
	}
	if took := time.Duration(rounds) * catching; took > 3*paceAhead {
		t.Errorf("nothing for %v on a path that became narrow", took)
	}
	// However little the path is thought to carry, what waits leaves.
	l.estimate.rate, left, rounds = 100_000, 167, 0
	for ; left > 0 && rounds < 1000; rounds++ {
		n := min(l.allow(167), left)
		for range n {
			l.number(1200)
		}
		left -= n
		l.now = l.now.Add(catching)
	}
	if took := time.Duration(rounds) * catching; took > 2*paceMost {
		t.Errorf("200 kB left in %v", took)
	}
}

// However small the packets that are sent again, a probe has enough of them for the train to tell something.
func TestProbeIsLongEnough(t *testing.T) {
	now := time.Unix(1000, 0)
	e := newEstimator(now)
	e.rate, e.limited = 600_000, true
	for _, size := range []int{300, 1200} {
		var p prober
		p.prepare(e, 4_000_000, &outTrack{section: section{rtxPT: 97}, packets: 1}, now)
		if !p.probing() {
			t.Fatal("nothing is probed")
		}
		n := 0
		for ; p.probing(); n++ {
			p.sent(size)
		}
		if least := worth(p.rate, probeSpan); n < probeLeast || n*size < least || n > max(probeLeast, least/size+1) {
			t.Errorf("%d packets of %d bytes", n, size)
		}
	}
}

// A client that asks for the same packet every 100 ms gets it some times, ever more rarely.
func TestRepeats(t *testing.T) {
	var r repeats
	now := time.Unix(1000, 0)
	var given []int
	for i := range 35 {
		if r.due(1000, now.Add(time.Duration(i)*100*time.Millisecond)) {
			given = append(given, i)
		}
	}
	if !slices.Equal(given, []int{0, 1, 2, 3, 5, 9, 16, 29}) {
		t.Errorf("sent again at %v", given)
	}
	if !r.due(1128, now) || !r.due(1000, now) {
		t.Error("another packet is mistaken for it")
	}
}

// threeCame is feedback on three packets, padded as three quarters of all are.
func threeCame(tb testing.TB) []byte {
	p := &rtcp.TransportLayerCC{PacketStatusCount: 3, PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: 1, RunLength: 3}},
		RecvDeltas: []*rtcp.RecvDelta{{Type: 1, Delta: 250}, {Type: 1, Delta: 500}, {Type: 1, Delta: 0}}}
	p.Header = rtcp.Header{Type: rtcp.TypeTransportSpecificFeedback, Count: rtcp.FormatTCC, Length: uint16(p.MarshalSize()/4 - 1), Padding: true}
	b, err := p.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestHearsPaddedFeedback(t *testing.T) {
	now := time.Unix(1000, 0)
	e := newEstimator(now)
	for range 3 {
		e.log.number(now, 1000, false)
	}
	if e.hear(threeCame(t), now); e.told != 3 || e.lost != 0 {
		t.Errorf("%d told of, %d lost", e.told, e.lost)
	}
}

func FuzzFeedback(f *testing.F) {
	f.Add(threeCame(f), uint16(3))
	f.Add([]byte{0x8f, 205, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 1, 2}, uint16(2000))
	f.Fuzz(func(t *testing.T, b []byte, sent uint16) {
		now := time.Unix(1000, 0)
		e := newEstimator(now)
		for range sent {
			now = now.Add(time.Millisecond)
			e.log.number(now, 1200, false)
		}
		for range 3 {
			e.hear(b, now)
			now = now.Add(time.Second)
			e.tick(now)
		}
		if e.rate < 0 || e.rate > 10*tooFast {
			t.Errorf("%d bit/s", e.rate)
		}
	})
}

// What pion writes is read as it was meant, chunks of all kinds.
func TestHearsWhatOthersWrite(t *testing.T) {
	now := time.Unix(1000, 0)
	e := newEstimator(now)
	for range 40 {
		e.log.number(now, 1000, false)
	}
	small, large := uint16(rtcp.TypeTCCPacketReceivedSmallDelta), uint16(rtcp.TypeTCCPacketReceivedLargeDelta)
	p := &rtcp.TransportLayerCC{BaseSequenceNumber: 2, PacketStatusCount: 3 + 14 + 7, ReferenceTime: 10, PacketChunks: []rtcp.PacketStatusChunk{
		&rtcp.RunLengthChunk{PacketStatusSymbol: small, RunLength: 3},
		&rtcp.StatusVectorChunk{Type: 1, SymbolSize: rtcp.TypeTCCSymbolSizeOneBit, SymbolList: []uint16{1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
		&rtcp.StatusVectorChunk{Type: 1, SymbolSize: rtcp.TypeTCCSymbolSizeTwoBit, SymbolList: []uint16{small, large, 0, small, 0, 0, large}},
	}}
	for i, symbol := range []uint16{small, small, small, small, small, small, small, large, small, large} {
		p.RecvDeltas = append(p.RecvDeltas, &rtcp.RecvDelta{Type: symbol, Delta: int64(i) * 250})
	}
	p.RecvDeltas[9].Delta = -1000
	p.Header = rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: p.Len()/4 - 1, Padding: int(p.Len()) != p.MarshalSize()}
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	e.hear(b, now)
	var came []int // the first report was judged by itself
	for i := range 40 {
		if e.log.ring[i].size == 0 {
			came = append(came, i)
		}
	}
	if want := []int{2, 3, 4, 5, 8, 18, 19, 20, 22, 25}; !slices.Equal(came, want) {
		t.Errorf("came %v, want %v", came, want)
	}
	if e.told != 23 || e.lost != 14 {
		t.Errorf("%d of %d lost", e.lost, e.told)
	}
	if last := int64(10*64_000 + 250*(0+1+2+3+4+5+6+7+8) - 1000); e.train.at[1] != last {
		t.Errorf("the last came at %d, want %d", e.train.at[1], last)
	}
}

func BenchmarkHear(b *testing.B) {
	now := time.Unix(1000, 0)
	e := newEstimator(now)
	p := []byte{0x8f, 205, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0x20, 42}
	p = append(p, make([]byte, 4+4*16-len(p))...)
	b.ReportAllocs()
	for b.Loop() {
		binary.BigEndian.PutUint16(p[12:], e.log.next)
		for range 42 {
			e.log.number(now, 1200, false)
		}
		now = now.Add(100 * time.Millisecond)
		e.hear(p, now)
	}
}

func BenchmarkNumber(b *testing.B) {
	now := time.Now()
	e := newEstimator(now)
	b.ReportAllocs()
	for b.Loop() {
		e.log.number(now, 1200, false)
	}
}
