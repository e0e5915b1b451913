package whip

import (
	"fmt"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"gantry/media"
)

// discard is a wire without a far end.
type discard struct{ packets int }

func (d *discard) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	d.packets++
	return h.MarshalSize() + len(payload), nil
}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkFrame is what one picture costs from the Queue's end to pion's: packing, history, numbering, header extensions, and
// the note of each departure for the bandwidth estimate. SRTP and the socket are not in it.
func BenchmarkFrame(b *testing.B) {
	for _, bitrate := range []int{2_500_000, 8_000_000, 20_000_000} {
		b.Run(fmt.Sprintf("%.1fMbps", float64(bitrate)/1e6), func(b *testing.B) {
			bw := newBandwidth(Default().Bitrate, tracks())
			out := &discard{}
			s, err := newStream(tracks()[0], "x")
			must(b, err)
			s.mid, s.wire = "0", wire{out: out, ssrc: 1, rtxSSRC: 2, payloadType: 96, rtxType: 97, twcc: 1, capture: 2, midExt: 3}
			l := &lane{stream: s, write: writer(out), history: newHistory(s.Kind())}
			p := newPacer(1_000_000_000_000, &counters{})
			p.departed = bw.departed
			p.wall = func(pts time.Duration) time.Time { return time.Unix(0, int64(pts)) }
			p.report = func([]rtcp.Packet) error { return nil }
			au := unit(bitrate/30/8, false)
			pts, due := time.Hour, time.Now()
			b.ReportAllocs()
			for b.Loop() {
				pts += time.Second / 30
				p.put(videoQueue, l.pack(&media.Packet{PTS: pts, Data: au}, packH264(au, maxPayload))...)
				for {
					pkt, _ := p.next(time.Now(), &due)
					if pkt == nil {
						break
					}
					p.send(pkt)
				}
			}
			b.ReportMetric(float64(out.packets)/float64(b.N), "packets/op")
		})
	}
}

func BenchmarkPackH264(b *testing.B) {
	au := unit(2_500_000/30/8, false)
	b.SetBytes(int64(len(au)))
	b.ReportAllocs()
	for b.Loop() {
		_ = packH264(au, maxPayload)
	}
}
