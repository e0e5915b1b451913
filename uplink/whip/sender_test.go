package whip

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
)

func loopbackOnly(ip net.IP) bool { return ip.IsLoopback() }

func TestPublish(t *testing.T) {
	t.Parallel()
	for _, gather := range []string{Trickle, Full} {
		t.Run(gather, func(t *testing.T) {
			t.Parallel()
			p, prog := newPeer(t), newProgramme(2_000_000)
			c := config(p.url())
			c.Gather = gather
			s, stop := start(t, c, prog)
			connected(t, prog)
			testkit.Eventually(t, 5*time.Second, "60 pictures and their sound", func() bool {
				pictures := 0
				for _, pkt := range p.received(webrtc.RTPCodecTypeVideo) {
					if pkt.Marker {
						pictures++
					}
				}
				return pictures >= 60 && len(p.received(webrtc.RTPCodecTypeAudio)) >= 90
			})
			video := p.received(webrtc.RTPCodecTypeVideo)
			if first := video[0].Payload; first[0]&0x1f != stapA || first[3] != testSPS[0] {
				t.Errorf("video does not begin with parameter sets: % x", first[:8])
			}
			for _, pkt := range video {
				if pkt.MarshalSize() > maxPacket {
					t.Errorf("packet of %d bytes", pkt.MarshalSize())
				}
			}
			if stats := s.Detail(); !stats.Connected || stats.Packets < 300 || stats.Bytes < 300_000 || stats.Remote == "" {
				t.Errorf("stats %+v", stats)
			}
			testkit.Eventually(t, 5*time.Second, "round trip and estimate", func() bool { return s.Detail().RTT > 0 && s.Detail().Estimate > 0 })
			if err := stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
			want := `POST , PATCH "0", DELETE `
			if gather == Full {
				want = "POST , DELETE "
			}
			if got := p.requests(); got != want {
				t.Errorf("requests %q, want %q", got, want)
			}
			if s.Detail().Connected {
				t.Error("still connected")
			}
		})
	}
}

func TestOffer(t *testing.T) {
	t.Parallel()
	p, prog := newPeer(t), newProgramme(1_000_000)
	_, stop := start(t, config(p.url()), prog)
	connected(t, prog)
	must(t, stop())
	for _, want := range []string{"a=group:BUNDLE 0 1", "a=ice-options:trickle ice2", "a=setup:actpass", "a=sendonly", "a=rtcp-mux\r\na=rtcp-mux-only",
		"profile-level-id=64001f", "packetization-mode=1", "a=rtpmap:111 opus/48000/2", "stereo=1", "a=rtpmap:97 rtx/90000", "a=ssrc-group:FID",
		absCaptureTimeURI, "transport-wide-cc", "urn:ietf:params:rtp-hdrext:sdes:mid", "ccm fir", "nack pli"} {
		if !strings.Contains(p.offer, want) {
			t.Errorf("no %q in offer", want)
		}
	}
	msids := map[string]bool{}
	for _, l := range strings.Split(p.offer, "\r\n") {
		if rest, ok := strings.CutPrefix(l, "a=msid:"); ok {
			id, _, _ := strings.Cut(rest, " ")
			msids[id] = true
		}
		if strings.HasPrefix(l, "m=") && strings.Contains(l, "application") {
			t.Errorf("a data channel: %s", l)
		}
	}
	if len(msids) != 1 {
		t.Errorf("media streams %v, want one", msids)
	}
	if t.Failed() {
		t.Log(p.offer)
	}
}

// The sender reports and the capture marks must come from the capture clock, not from the time of sending.
func TestCaptureClock(t *testing.T) {
	t.Parallel()
	const late = 700 * time.Millisecond // between capture and sending, as far as the clocks tell
	p, prog := newPeer(t), newProgramme(1_000_000)
	wall := prog.Wall
	prog.Wall = func(pts time.Duration) time.Time { return wall(pts - late) }
	start(t, config(p.url()), prog)
	connected(t, prog)
	testkit.Eventually(t, 10*time.Second, "two reports of each stream", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.reports) >= 5
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for kind, rate := range map[webrtc.RTPCodecType]int64{webrtc.RTPCodecTypeVideo: 90000, webrtc.RTPCodecTypeAudio: 48000} {
		id := uint8(p.exts[absCaptureTimeURI])
		type mark struct {
			rtp uint32
			ntp uint64
		}
		var marks []mark
		since := uint32(0)
		for i, pkt := range p.packets[kind] {
			ext := pkt.GetExtension(id)
			if i == 0 && len(ext) == 0 {
				t.Errorf("%v: the first packet has no mark", kind)
			}
			if len(ext) == 0 {
				continue
			}
			if len(ext) != 16 || binary.BigEndian.Uint64(ext[8:]) != 0 {
				t.Fatalf("%v: mark % x", kind, ext)
			}
			if gap := int64(pkt.Timestamp-since) * 1000 / rate; since != 0 && gap > 1000 {
				t.Errorf("%v: no mark for %d ms", kind, gap)
			}
			since = pkt.Timestamp
			marks = append(marks, mark{pkt.Timestamp, binary.BigEndian.Uint64(ext[:8])})
		}
		if len(marks) < 3 {
			t.Fatalf("%v: %d marks", kind, len(marks))
		}
		// All pairs of one stream lie on one line: RTP time against capture time.
		line := func(what string, ts uint32, at uint64) {
			elapsed := time.Duration(int64(int32(ts-marks[0].rtp)) * int64(time.Second) / rate)
			if d := (elapsed - sinceNTP(at, marks[0].ntp)).Abs(); d > time.Millisecond {
				t.Errorf("%v: %s is %v off the capture clock", kind, what, d)
			}
		}
		for _, m := range marks {
			line("a mark", m.rtp, m.ntp)
		}
		reports := 0
		for _, sr := range p.reports {
			if sr.SSRC == p.packets[kind][0].SSRC {
				reports++
				line("a sender report", sr.RTPTime, sr.NTPTime)
			}
		}
		if reports < 2 {
			t.Errorf("%v: %d sender reports", kind, reports)
		}
		// And the line is the capture clock's: the late pictures were taken that much ago.
		age := time.Since(fromNTP(marks[len(marks)-1].ntp))
		if age < late || age > late+2*time.Second {
			t.Errorf("%v: newest mark is %v old", kind, age)
		}
	}
}

func fromNTP(at uint64) time.Time {
	return time.Unix(int64(at>>32)-2208988800, int64((at&0xffffffff)*1e9>>32))
}

func sinceNTP(a, b uint64) time.Duration { return fromNTP(a).Sub(fromNTP(b)) }

func TestKeyFrameRequests(t *testing.T) {
	t.Parallel()
	p, prog := newPeer(t), newProgramme(1_000_000)
	s, _ := start(t, config(p.url()), prog)
	connected(t, prog)
	testkit.Eventually(t, 5*time.Second, "video", func() bool { return p.video.Load() != nil })
	asked := func() int {
		n := 0
		for _, f := range prog.feedback() {
			if f.KeyFrame {
				n++
			}
		}
		return n
	}
	for name, ask := range map[string]func(){"PLI": p.pli, "FIR": p.fir} {
		before, at := asked(), time.Now()
		ask()
		testkit.Eventually(t, time.Second, name+" to reach the encoder", func() bool { return asked() > before })
		t.Logf("%s to feedback: under %v", name, time.Since(at).Round(100*time.Microsecond))
	}
	if s.Detail().PLIs != 2 {
		t.Errorf("stats %+v", s.Detail())
	}
}
