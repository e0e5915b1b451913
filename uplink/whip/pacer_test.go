package whip

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"gantry/media"
)

// A wireTap records what a pacer sends, and when.
type wireTap struct {
	mu      sync.Mutex
	began   time.Time
	headers []rtp.Header
	lengths []int
	at      []time.Duration
	reports []*rtcp.SenderReport
	audio   *lane
	video   *lane
}

func newTap(rate int) (*pacer, *wireTap) {
	p := newPacer(rate, &counters{})
	w := &wireTap{began: time.Now()}
	p.wall = func(pts time.Duration) time.Time { return time.Unix(1_000_000, 0).Add(pts) }
	p.report = func(r []rtcp.Packet) error {
		w.reports = append(w.reports, r[0].(*rtcp.SenderReport))
		return nil
	}
	lane := func(t media.Track, wire wire) *lane {
		s, _ := newStream(t, "x")
		s.wire, s.mid = wire, "0"
		l := &lane{stream: s, history: newHistory(s.Kind())}
		l.write = interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.headers, w.lengths, w.at = append(w.headers, h.Clone()), append(w.lengths, len(payload)), append(w.at, time.Since(w.began))
			return h.MarshalSize() + len(payload), nil
		})
		return l
	}
	w.video = lane(tracks()[0], wire{ssrc: 1, rtxSSRC: 2, payloadType: 96, rtxType: 97, twcc: 1, capture: 2, midExt: 3})
	w.audio = lane(tracks()[1], wire{ssrc: 3, payloadType: 111, twcc: 1, capture: 2})
	return p, w
}

func (w *wireTap) unit(pts time.Duration, size int, key bool) []*packet {
	return w.video.pack(&media.Packet{PTS: pts, Key: key}, [][]byte{make([]byte, size)})
}

func (w *wireTap) types() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	kinds := map[uint32]string{1: "v", 2: "r", 3: "a"}
	s := ""
	for _, h := range w.headers {
		s += kinds[h.SSRC]
	}
	return s
}

func TestPacerSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := newTap(8_000_000)
		ctx, cancel := context.WithCancel(t.Context())
		for range 100 {
			p.put(videoQueue, w.unit(time.Second, 980, false)...)
		}
		go p.run(ctx)
		time.Sleep(50 * time.Millisecond)
		p.put(audioQueue, w.audio.pack(&media.Packet{PTS: time.Second}, [][]byte{{1}})...)
		synctest.Wait()
		i := strings.IndexByte(w.types(), 'a')
		w.mu.Lock()
		if i < 0 || w.at[i] != 50*time.Millisecond {
			t.Errorf("audio is number %d", i)
		}
		w.mu.Unlock()
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		if len(w.at) != 101 {
			t.Fatalf("%d packets", len(w.at))
		}
		if last := w.at[100]; last < 90*time.Millisecond || last > 105*time.Millisecond {
			t.Errorf("100 packets of 1 ms took %v", last)
		}
		for i, at := range w.at {
			if n := i - int(at/time.Millisecond); n > 8 {
				t.Errorf("packet %d already after %v", i, at)
			}
		}
	})
}

// The transmitter waits while too much is queued, and goes on when there is room: also when room comes from a higher rate.
func TestPacerRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := newTap(1_000_000)
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		wait := func() time.Duration {
			begin := time.Now()
			p.wait(ctx)
			return time.Since(begin)
		}
		for range 50 { // 400 ms
			p.put(videoQueue, w.unit(time.Second, 1000, false)...)
		}
		if d := wait(); d < 130*time.Millisecond || d > 170*time.Millisecond {
			t.Errorf("waited %v", d)
		}
		for range 100 {
			p.put(videoQueue, w.unit(time.Second, 1000, false)...)
		}
		go func() {
			time.Sleep(20 * time.Millisecond)
			p.setRate(10_000_000, 0)
		}()
		if d := wait(); d < 19*time.Millisecond || d > 30*time.Millisecond {
			t.Errorf("waited %v for a higher rate", d)
		}
		time.Sleep(time.Second)
		for range 1000 {
			p.put(videoQueue, w.unit(time.Second, 1000, false)...)
		}
		go func() {
			time.Sleep(10 * time.Millisecond)
			p.clear()
		}()
		if d := wait(); d > 11*time.Millisecond {
			t.Errorf("waited %v though all was dropped", d)
		}
		cancel()
		synctest.Wait()
	})
}

func TestPacerHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := newTap(100_000_000)
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		p.put(videoQueue, w.video.pack(&media.Packet{PTS: time.Hour, Key: true}, [][]byte{{1}, {2}, {3}})...)
		p.put(audioQueue, w.audio.pack(&media.Packet{PTS: time.Hour}, [][]byte{{4}})...)
		synctest.Wait()
		again := w.video.history.get(w.video.seq-2, time.Now(), time.Second)
		if again == nil || w.video.history.get(w.video.seq-2, time.Now(), time.Second) != nil {
			t.Fatal("history gives a packet once a round trip")
		}
		if w.video.history.get(w.video.seq, time.Now(), 0) != nil || w.video.history.get(w.video.seq-500, time.Now(), 0) != nil {
			t.Error("history gives what was never sent")
		}
		p.put(rtxQueue, again)
		synctest.Wait()
		cancel()
		synctest.Wait()

		var transport []uint16
		byType := map[uint8][]rtp.Header{}
		for _, h := range w.headers {
			transport = append(transport, binary.BigEndian.Uint16(h.GetExtension(1)))
			byType[h.PayloadType] = append(byType[h.PayloadType], h)
			if h.Version != 2 || h.ExtensionProfile != 0xbede {
				t.Errorf("header %+v", h)
			}
		}
		for i, seq := range transport {
			if int(seq) != i {
				t.Errorf("transport sequence numbers %v", transport)
				break
			}
		}
		video, rtx, audio := byType[96], byType[97], byType[111]
		if len(video) != 3 || len(rtx) != 1 || len(audio) != 1 {
			t.Fatalf("%d video, %d RTX, %d audio", len(video), len(rtx), len(audio))
		}
		for i, h := range video {
			if h.Marker != (i == 2) || h.SequenceNumber != video[0].SequenceNumber+uint16(i) || h.Timestamp != w.video.stream.clock.at(time.Hour) {
				t.Errorf("video header %d: %+v", i, h)
			}
			if first := i == 0; (h.GetExtension(2) != nil) != first || (string(h.GetExtension(3)) == "0") != first {
				t.Errorf("extensions of packet %d: %+v", i, h.Extensions)
			}
		}
		if h := rtx[0]; h.Timestamp != video[1].Timestamp || h.GetExtension(2) != nil || w.lengths[len(w.lengths)-1] != 3 {
			t.Errorf("RTX header %+v, %d bytes", h, w.lengths[len(w.lengths)-1])
		}
		if audio[0].Marker || audio[0].GetExtension(2) == nil {
			t.Errorf("audio header %+v", audio[0])
		}
		if len(w.reports) != 2 {
			t.Fatalf("%d sender reports", len(w.reports))
		}
		for _, r := range w.reports {
			if got := fromNTP(r.NTPTime).Sub(p.wall(time.Hour)).Abs(); got > time.Microsecond || r.PacketCount != 1 {
				t.Errorf("report %+v, %v off", r, got)
			}
		}
	})
}

// A flood of requests takes half of the turns, no more, and one packet is sent again a few times, no more.
func TestPacerRetransmissionsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := newTap(10_000_000)
		for range 20 {
			p.put(videoQueue, w.unit(time.Second, 1000, false)...)
		}
		for range 1000 {
			p.put(rtxQueue, &packet{lane: w.video, payload: make([]byte, 1000), resend: true})
		}
		if n := len(p.queues[rtxQueue]); n != maxRTXQueue {
			t.Errorf("%d retransmissions wait", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		if got := w.types()[:12]; got != "rvrvrvrvrvrv" {
			t.Errorf("sent %s", got)
		}
		times := 0
		for range 100 {
			if w.video.history.get(w.video.seq-1, time.Now(), 0) != nil {
				times++
				if w.video.history.get(w.video.seq-1, time.Now(), 0) != nil {
					t.Error("the same packet waits twice")
				}
				w.video.history.left(w.video.seq-1, time.Now())
			}
		}
		if times != maxResends {
			t.Errorf("sent again %d times", times)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	var c counters
	at := time.Now()
	c.reported(1, 100, at)
	c.reported(2, 100, at.Add(time.Second))
	c.answered(1, 100, 65536/2, 64, true, at.Add(540*time.Millisecond))
	if s := c.snapshot(); s.RTT != 40*time.Millisecond || s.Loss != 0.25 {
		t.Errorf("stats %+v", s)
	}
	c.answered(1, 99, 0, 0, false, at.Add(time.Second))
	c.answered(1, 0, 0, 0, false, at.Add(time.Second))
	if s := c.snapshot(); s.RTT != 40*time.Millisecond || s.Loss != 0.25 {
		t.Errorf("stats %+v", s)
	}
}

func TestClocks(t *testing.T) {
	c := rtpClock{rate: 90000, base: 0xffffff00}
	days := uint64(100 * 24 * 3600 * 90000)
	for pts, want := range map[time.Duration]uint64{0: 0, time.Second / 30: 3000, 100 * 24 * time.Hour: days, 1: 0, 11111: 1} {
		if got := c.at(pts) - c.base; got != uint32(want) { // both wrap
			t.Errorf("%v: %d, want %d", pts, got, uint32(want))
		}
	}
	at := time.Date(2026, 11, 22, 12, 34, 56, 789_000_000, time.UTC)
	if d := fromNTP(ntp(at)).Sub(at).Abs(); d > time.Nanosecond {
		t.Errorf("NTP is %v off", d)
	}
}
