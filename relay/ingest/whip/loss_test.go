package whip

import (
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/testkit"
)

// A link is a UDP path to the server that loses packets and takes its time.
type link struct {
	client, server *net.UDPConn
	loss           float64
	delay          time.Duration

	mu   sync.Mutex
	rand *rand.Rand
	peer *net.UDPAddr
	dead bool
	wg   sync.WaitGroup
}

// cut loses everything from now on.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

type delayed struct {
	at   time.Time
	data []byte
}

func newLink(t testing.TB, to net.Addr, loss float64, delay time.Duration) *link {
	t.Helper()
	l := &link{loss: loss, delay: delay, rand: rand.New(rand.NewPCG(1, 2))}
	var err error
	if l.client, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	if l.server, err = net.DialUDP("udp4", nil, to.(*net.UDPAddr)); err != nil {
		t.Fatal(err)
	}
	up, down := make(chan delayed, 4096), make(chan delayed, 4096)
	l.wg.Go(func() {
		defer close(up)
		l.receive(l.client, up, true)
	})
	l.wg.Go(func() {
		defer close(down)
		l.receive(l.server, down, false)
	})
	l.wg.Go(func() { l.forward(up, func(b []byte) { _, _ = l.server.Write(b) }) })
	l.wg.Go(func() {
		l.forward(down, func(b []byte) {
			l.mu.Lock()
			peer := l.peer
			l.mu.Unlock()
			if peer != nil {
				_, _ = l.client.WriteToUDP(b, peer)
			}
		})
	})
	t.Cleanup(func() {
		_ = l.client.Close()
		_ = l.server.Close()
		l.wg.Wait()
	})
	return l
}

func (l *link) receive(c *net.UDPConn, out chan<- delayed, fromClient bool) {
	buf := make([]byte, 2000)
	for {
		n, from, err := c.ReadFromUDP(buf)
		if err != nil {
			if strings.Contains(err.Error(), "refused") {
				continue
			}
			return
		}
		l.mu.Lock()
		if fromClient {
			l.peer = from
		}
		// ICE and DTLS repeat what is lost; this test is about media.
		lost := l.dead || buf[0] >= 128 && buf[0] < 192 && l.rand.Float64() < l.loss
		l.mu.Unlock()
		if !lost {
			out <- delayed{time.Now().Add(l.delay), append([]byte(nil), buf[:n]...)}
		}
	}
}

func (l *link) forward(in <-chan delayed, write func([]byte)) {
	for d := range in {
		<-time.After(time.Until(d.at))
		write(d.data)
	}
}

var candidatePort = regexp.MustCompile(`(?m)^(a=candidate:\S+ \d+ udp \d+ 127\.0\.0\.1) \d+ (.*)$`)

// lead makes an answer lead to the link instead of the server.
func (l *link) lead(answer string) string {
	port := l.client.LocalAddr().(*net.UDPAddr).Port
	return candidatePort.ReplaceAllString(answer, fmt.Sprintf("$1 %d $2", port))
}

// At 5 % loss both ways and 40 ms round trip, no access unit is corrupted and more than 95 % arrive: with retransmissions in a
// stream of their own, and as the same packets again.
func TestLoss(t *testing.T) {
	t.Parallel()
	for name, peer := range map[string]func(testing.TB) *peer{"rtx": newPeer, "no rtx": newSimplePeer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Access{})
			p := peer(t)
			p.addVideo()
			l := newLink(t, b.port.UDPMux().GetListenAddresses()[0], 0.05, 20*time.Millisecond)
			p.publish(b, "/whip/lossy", l.lead)
			if has := strings.Contains(p.answer, "rtx/90000"); has != (name == "rtx") {
				t.Fatalf("RTX in the answer: %v", has)
			}
			units := record(t, "640x360", plain)
			stop := p.playing(units)
			sent := map[[32]byte]int{}
			for i, au := range units {
				sent[picture(au)] = i
			}
			v := b.watch(t, "lossy", func(v *viewer) bool { return len(v.units[0]) >= 150 })
			stop()
			span := v.units[0][len(v.units[0])-1].pts - v.units[0][0].pts
			due := int((span+time.Second/60)*30/time.Second) + 1
			for i, u := range v.units[0] {
				if _, ok := sent[picture(u.annexB(t))]; !ok {
					t.Errorf("unit %d is corrupted", i)
				}
			}
			got := float64(len(v.units[0])) / float64(due)
			c := b.server.Counters()
			t.Logf("%d of %d access units; %d packets, %d asked for again, %d recovered, %d lost, %d key frame requests", len(v.units[0]), due,
				c.Packets.Load(), c.NACKs.Load(), c.Recovered.Load(), c.Lost.Load(), c.KeyRequests.Load())
			if got < 0.95 {
				t.Errorf("%.1f %% of access units arrived", 100*got)
			}
			if c.NACKs.Load() == 0 || c.Recovered.Load() == 0 {
				t.Error("nothing was lost and mended: the test proves nothing")
			}
		})
	}
}

// When the path is cut and everything retransmitted comes too late, a key frame is asked for until one has come whole.
func TestKeyFrameAfterGap(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	p := newPeer(t)
	p.addVideo()
	p.publish(b, "/whip/gap", nil)
	units := record(t, "320x180", plain)
	p.send(units[0], 3000)
	testkit.Eventually(t, 10*time.Second, "live", func() bool { _, err := b.hub.Live("gap"); return err == nil })
	for len(p.plis) > 0 {
		<-p.plis
	}
	p.seq += 300 // never sent: the responder cannot repeat them
	p.send(units[2], 6000)
	for i := range 2 {
		select {
		case <-p.plis:
		case <-time.After(5 * time.Second):
			t.Fatalf("no key frame request number %d", i+1)
		}
	}
	p.send(units[0], 3000)
	p.send(units[1], 3000)
	b.watch(t, "gap", func(v *viewer) bool { n := len(v.units[0]); return n >= 2 && v.units[0][n-2].key })
	before := b.server.Counters().KeyRequests.Load()
	timer := time.NewTimer(2 * keyRetry)
	<-timer.C
	if now := b.server.Counters().KeyRequests.Load(); now != before {
		t.Errorf("asked %d times more after a whole key frame", now-before)
	}
}
