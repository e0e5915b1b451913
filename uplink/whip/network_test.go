package whip

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/proto/whip"
	"gantry/internal/testkit"
)

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// behind returns a peer that is reached through a path only.
func behind(t *testing.T) (*peer, *path) {
	link := newPath(t)
	p := newPeer(t)
	p.rewrite, p.ignore = link.rewrite, true
	return p, link
}

// Packets that are lost come again: every sequence number arrives in the end, and those that were lost come by RTX.
func TestRetransmission(t *testing.T) {
	t.Parallel()
	for _, rtx := range []bool{true, false} {
		t.Run(map[bool]string{true: "RTX", false: "same SSRC"}[rtx], func(t *testing.T) {
			t.Parallel()
			p, link := behind(t)
			p.rtx = rtx
			prog := newProgramme(1_500_000)
			s, _ := start(t, config(p.url()), prog)
			connected(t, prog)
			var mu sync.Mutex
			lost := 0
			link.set(func(l *path) {
				l.lose = func(b []byte) bool {
					mu.Lock()
					defer mu.Unlock()
					if !isMedia(b) || b[1]&0x7f != 102 && b[1]&0x7f != h264PayloadType || rand.IntN(100) >= 5 {
						return false
					}
					lost++
					return true
				}
			})
			testkit.Eventually(t, 15*time.Second, "30 packets lost", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return lost >= 30
			})
			link.set(func(l *path) { l.lose = nil })
			last := len(p.received(webrtc.RTPCodecTypeVideo))
			testkit.Eventually(t, 5*time.Second, "all that were lost", func() bool {
				video := p.received(webrtc.RTPCodecTypeVideo)
				seen := map[uint16]bool{}
				for _, pkt := range video {
					seen[pkt.SequenceNumber] = true
				}
				for seq := video[0].SequenceNumber; seq != video[last-1].SequenceNumber; seq++ {
					if !seen[seq] {
						return false
					}
				}
				return true
			})
			stats := s.Detail()
			if stats.Retransmitted < 25 || stats.NACKs < 25 {
				t.Errorf("stats %+v", stats)
			}
			if rtx && p.video.Load().RtxSSRC() == 0 {
				t.Error("RTX was not negotiated")
			}
			t.Logf("lost %d, asked for %d, sent again %d", lost, stats.NACKs, stats.Retransmitted)
		})
	}
}

// The bitrate falls when the link carries less than the encoder makes, and comes back with it.
func TestBitrateFollowsLink(t *testing.T) {
	p, link := behind(t)
	const full = 1_600_000
	prog := newProgramme(full)
	s, _ := start(t, config(p.url()), prog)
	connected(t, prog)
	testkit.Eventually(t, 10*time.Second, "an estimate that leaves the encoder its rate", func() bool {
		return s.Detail().Estimate > full && prog.rate.Load() == full
	})
	link.set(func(l *path) { l.rate = 800_000 })
	begin := time.Now()
	testkit.Eventually(t, 3*time.Second, "the encoder to be told less than the link carries", func() bool { return prog.rate.Load() < 800_000 })
	down := time.Since(begin)
	time.Sleep(2 * time.Second) // it stays so for a while
	low := prog.rate.Load()
	if low < 250_000 || low > 1_000_000 {
		t.Errorf("%d bit/s after two seconds at 800,000", low)
	}
	link.set(func(l *path) { l.rate = 0 })
	begin = time.Now()
	testkit.Eventually(t, 15*time.Second, "the rate to come back", func() bool { return prog.rate.Load() == full })
	t.Logf("down in %v, back in %v", down.Round(10*time.Millisecond), time.Since(begin).Round(10*time.Millisecond))
	told := 0
	for _, f := range prog.feedback() {
		if f.Bitrate != 0 {
			told++
		}
	}
	prog.mu.Lock()
	elapsed := prog.at[len(prog.at)-1].Sub(prog.at[0])
	prog.mu.Unlock()
	if most := int(elapsed/(50*time.Millisecond)) + 2; told > most {
		t.Errorf("feedback %d times in %v", told, elapsed)
	}
}

// When nothing comes back the sender makes a new path for the same session, and media goes on.
func TestICERestart(t *testing.T) {
	t.Parallel()
	p, link := behind(t)
	prog := newProgramme(1_000_000)
	s, stop := start(t, config(p.url()), prog)
	connected(t, prog)
	testkit.Eventually(t, 5*time.Second, "media", func() bool { return p.bytes.Load() > 100_000 })
	link.set(func(l *path) { l.cut = true })
	testkit.Eventually(t, 10*time.Second, "the path to be given up", func() bool { return s.Detail().Restarts == 1 })
	link.set(func(l *path) { l.cut = false })
	testkit.Eventually(t, 10*time.Second, "the new path", func() bool { return s.Detail().Connected })
	before := p.bytes.Load()
	testkit.Eventually(t, 5*time.Second, "media on the new path", func() bool { return p.bytes.Load() > before+100_000 })
	must(t, stop())
	if got := p.requests(); got != `POST , PATCH "0", PATCH "*", DELETE ` && got != `POST , PATCH "0", PATCH "*", DELETE "1"` {
		t.Errorf("requests %s", got)
	}
	if len(prog.live) != 0 {
		t.Error("Connected was called again")
	}
}

// Where the restart does not help, Run ends and says why.
func TestICERestartFails(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]bool{"no new path": false, "server refuses": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, link := behind(t)
			p.noRestart = refuse
			prog := newProgramme(1_000_000)
			s, err := New(func() Config { c := config(p.url()); c.Token = token; return c }(), testLog(t))
			must(t, err)
			done := make(chan error, 1)
			ctx := t.Context()
			go func() { done <- s.Run(ctx, prog.Program) }()
			encoded := make(chan struct{})
			enc, stop := context.WithCancel(ctx)
			go func() { prog.encode(enc); close(encoded) }()
			connected(t, prog)
			link.set(func(l *path) { l.cut = true })
			select {
			case err = <-done:
			case <-time.After(15 * time.Second):
				t.Fatal("Run goes on")
			}
			stop()
			<-encoded
			if err == nil || !strings.HasPrefix(err.Error(), "path lost: nothing comes back") {
				t.Errorf("error %v", err)
			}
			t.Log(err)
		})
	}
}

// A server without PATCH: the session may come up all the same, and if not, the offer goes again with all candidates.
func TestServerWithoutTrickle(t *testing.T) {
	t.Parallel()
	for _, status := range []int{405, 412, 422, 501} {
		t.Run(map[int]string{405: "405", 412: "412", 422: "422", 501: "501"}[status], func(t *testing.T) {
			t.Parallel()
			p, prog := newPeer(t), newProgramme(1_000_000)
			p.noPatch = status
			_, stop := start(t, config(p.url()), prog)
			connected(t, prog)
			testkit.Eventually(t, 5*time.Second, "media", func() bool { return p.bytes.Load() > 50_000 })
			must(t, stop())
		})
	}
	t.Run("unreachable before", func(t *testing.T) {
		t.Parallel()
		p, prog := newPeer(t), newProgramme(1_000_000)
		p.noPatch = 405
		hidden := 0
		p.rewrite = func(answer string) string { // the first answer has no candidate, so the server must reach us
			if hidden++; hidden == 1 {
				return hostCandidate.ReplaceAllString(answer, "a=x-hidden")
			}
			return answer
		}
		_, stop := start(t, config(p.url()), prog)
		connected(t, prog)
		must(t, stop())
		if got := p.requests(); got != `POST , PATCH "0", DELETE , POST , DELETE ` {
			t.Errorf("requests %s", got)
		}
		if !strings.Contains(p.offer, "a=candidate:") || strings.Contains(p.offer, "trickle") {
			t.Errorf("second offer lacks candidates:\n%s", p.offer)
		}
	})
}

// ICE servers that the server names are used: those of the answer when trickling, those of OPTIONS before a full gathering.
func TestNamedICEServers(t *testing.T) {
	t.Parallel()
	for _, gather := range []string{Trickle, Full} {
		t.Run(gather, func(t *testing.T) {
			t.Parallel()
			stun, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			must(t, err)
			defer stun.Close()
			p, prog := newPeer(t), newProgramme(1_000_000)
			p.link = whip.Link{URL: "stun:" + stun.LocalAddr().String(), Rel: whip.RelICEServer}.String()
			c := config(p.url())
			c.Gather, c.Discover = gather, gather == Full
			start(t, c, prog)
			must(t, stun.SetReadDeadline(time.Now().Add(5*time.Second)))
			b := make([]byte, 100)
			n, _, err := stun.ReadFrom(b)
			if err != nil || n < 20 || binary.BigEndian.Uint32(b[4:]) != 0x2112a442 { // RFC 8489 §5
				t.Errorf("no STUN request: %v, % x", err, b[:n])
			}
			connected(t, prog)
		})
	}
}

func TestPathLost(t *testing.T) {
	pair := func(typ webrtc.ICECandidateType, address, base string) *webrtc.ICECandidatePair {
		return &webrtc.ICECandidatePair{Local: &webrtc.ICECandidate{Typ: typ, Address: address, RelatedAddress: base}}
	}
	for name, tt := range map[string]struct {
		pair *webrtc.ICECandidatePair
		want bool
	}{
		"none":            {nil, false},
		"here":            {pair(webrtc.ICECandidateTypeHost, "127.0.0.1", ""), false},
		"gone":            {pair(webrtc.ICECandidateTypeHost, "192.0.2.1", ""), true},
		"reflexive, here": {pair(webrtc.ICECandidateTypeSrflx, "192.0.2.1", "127.0.0.1"), false},
		"reflexive, gone": {pair(webrtc.ICECandidateTypeSrflx, "198.51.100.1", "192.0.2.1"), true},
		"relay, no base":  {pair(webrtc.ICECandidateTypeRelay, "198.51.100.1", "0.0.0.0"), false},
		"name":            {pair(webrtc.ICECandidateTypeHost, "x.local", ""), false},
	} {
		if got := pathLost(tt.pair); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSplitTCP(t *testing.T) {
	const udp, tcp = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n", "a=candidate:2 1 TCP 1 192.0.2.1 9 typ host tcptype passive\r\n"
	without, held := splitTCP("v=0\r\n" + tcp + udp + "a=x\r\n")
	if without != "v=0\r\n"+udp+"a=x\r\n" || len(held) != 1 || "a="+held[0]+"\r\n" != tcp {
		t.Errorf("%q, held %q", without, held)
	}
	if without, held := splitTCP("v=0\r\n" + tcp); without != "v=0\r\n"+tcp || held != nil {
		t.Errorf("TCP alone: %q, held %q", without, held)
	}
}
