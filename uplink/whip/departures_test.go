package whip

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
)

// Reports of each form, with a wrap of sequence numbers and of reference times, give what was sent and when it came.
func TestDepartures(t *testing.T) {
	var d departures
	for i := range 100 {
		d.add(departure{seq: uint16(65530 + i), at: time.Duration(i) * time.Millisecond, bytes: 1000 + i})
	}
	delta := func(ms int64) *rtcp.RecvDelta {
		return &rtcp.RecvDelta{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: ms * 1000}
	}
	got := d.report(&rtcp.TransportLayerCC{BaseSequenceNumber: 65530, PacketStatusCount: 8, ReferenceTime: 0xffffff,
		PacketChunks: []rtcp.PacketStatusChunk{
			&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 3},
			&rtcp.StatusVectorChunk{SymbolList: []uint16{0, 1, 2, 3, 1, 1, 1, 1}}, // the last three are beyond the count
		}, RecvDeltas: []*rtcp.RecvDelta{delta(1), delta(1), delta(1), delta(5), delta(-2), delta(1), delta(1)}})
	want := []struct {
		bytes   int
		arrived time.Duration
		lost    bool
	}{{1000, 1, false}, {1001, 2, false}, {1002, 3, false}, {1003, 0, true}, {1004, 8, false}, {1005, 6, false}, {1007, 7, false}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if a := got[i]; a.Bytes != w.bytes || a.Lost != w.lost || a.Sent != time.Duration(w.bytes-1000)*time.Millisecond || a.Arrived != w.arrived*time.Millisecond {
			t.Errorf("%d: %+v, want %+v", i, a, w)
		}
	}
	// The next report overlaps, and its reference time has wrapped: two units on.
	got = d.report(&rtcp.TransportLayerCC{BaseSequenceNumber: 1, PacketStatusCount: 2, ReferenceTime: 1,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 2}},
		RecvDeltas:   []*rtcp.RecvDelta{delta(0), delta(3)}})
	if len(got) != 1 || got[0].Bytes != 1008 || got[0].Arrived != 2*tick+3*time.Millisecond {
		t.Errorf("second report: %+v", got)
	}
}

// What a receiver sends never harms, and never speaks of more packets than have left.
func FuzzDepartures(f *testing.F) {
	good, err := (&rtcp.TransportLayerCC{
		Header: rtcp.Header{Padding: true, Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 5}, BaseSequenceNumber: 7, PacketStatusCount: 3,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{Type: rtcp.TypeTCCRunLengthChunk, PacketStatusSymbol: 1, RunLength: 3}},
		RecvDeltas:   []*rtcp.RecvDelta{{Type: 1, Delta: 250}, {Type: 1, Delta: 250}, {Type: 1, Delta: 500}}}).Marshal()
	must(f, err)
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p rtcp.TransportLayerCC
		if p.Unmarshal(b) != nil {
			return
		}
		bw := newBandwidth(Default().Bitrate, tracks())
		for i := range 20 {
			bw.departed(departure{seq: uint16(i), bytes: 1000})
		}
		if n := len(bw.left.report(&p)); n > 20 {
			t.Errorf("%d of 20 packets", n)
		}
		if n := len(bw.left.report(&p)); n != 0 {
			t.Errorf("%d packets twice", n)
		}
		bw.feedback(&p)
		if r := bw.estimate().rate; r < 0 || r > Default().Bitrate.Max {
			t.Errorf("estimate %d", r)
		}
	})
}

// Repeats make up what the encoder does not send, and give way to it.
func TestPacerFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := newTap(5_000_000)
		ctx, cancel := context.WithCancel(t.Context())
		go p.run(ctx)
		p.setRate(5_000_000, 1_000_000)
		bytes := func(d time.Duration) (all, repeats int) {
			w.mu.Lock()
			from := len(w.at)
			w.mu.Unlock()
			for range d / (10 * time.Millisecond) {
				p.put(videoQueue, w.unit(time.Second, 1000, false)...) // 0.8 Mbit/s
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			for i := from; i < len(w.at); i++ {
				all += w.lengths[i]
				if w.headers[i].SSRC == 2 {
					repeats++
				}
			}
			return all, repeats
		}
		if all, repeats := bytes(2 * time.Second); all < 235_000 || all > 255_000 || repeats < 35 {
			t.Errorf("%d bytes and %d repeats in two seconds at a megabit", all, repeats)
		}
		if n := p.count.rtxBytes.Load() + p.count.retransmitted.Load(); n != 0 {
			t.Error("repeats count as retransmissions")
		}
		p.setRate(5_000_000, 0)
		if all, repeats := bytes(2 * time.Second); repeats > 0 || all != 200_000 {
			t.Errorf("%d bytes and %d repeats without", all, repeats)
		}
		cancel()
		synctest.Wait()
	})
}
