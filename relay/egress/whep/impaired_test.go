package whep_test

import (
	"net"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"gantry/internal/rtc"
	"gantry/internal/testkit"
	"gantry/internal/testkit/netns"
)

// A far bench is a relay whose media goes over a link with impairments, to viewers beyond it. Only HTTP takes the short way.
type farBench struct {
	*bench
	link        *netns.Link
	far, beside *netns.Namespace // of viewers beyond the link, and beside the relay
}

// farViewers makes one: what the relay sends suffers toViewer.
func farViewers(t *testing.T, toViewer, toRelay netns.Impairment) *farBench {
	t.Helper()
	there, here, link := netns.Pair(t, toViewer, toRelay)
	f := &farBench{link: link}
	f.bench = newBenchOn(t, func() (port *rtc.Port, err error) {
		err = there.Do(func() error {
			port, err = rtc.Listen(rtc.Config{Addr: net.JoinHostPort(there.Addr.String(), "0")}, quiet)
			return err
		})
		return port, err
	})
	f.far, f.beside = here, there
	return f
}

// in has a client use a socket in a namespace.
func in(t *testing.T, n *netns.Namespace) clientOptions {
	t.Helper()
	c, err := n.ListenPacket("udp4", net.JoinHostPort(n.Addr.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.UDPConn).SetReadBuffer(4 << 20)
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: c})
	t.Cleanup(func() { _ = mux.Close(); _ = c.Close() })
	return clientOptions{interceptor: true, setting: func(e *webrtc.SettingEngine) { e.SetICEUDPMux(mux) }}
}

// tail is what a client receives from now on.
type tail struct {
	c      *client
	n      int
	newest uint16
}

func (c *client) since() tail {
	c.mu.Lock()
	defer c.mu.Unlock()
	return tail{c, len(c.video), c.video[len(c.video)-1].SequenceNumber}
}

// ends counts the pictures of which the last packet has come: a machine that has no time loses others.
func (l tail) ends() (n int) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for _, p := range l.c.video[l.n:] {
		if p.Marker && int16(p.SequenceNumber-l.newest) > 0 {
			n++
		}
	}
	return n
}

// pictures counts the whole pictures that have come, and the key frames among them.
func (l tail) pictures() (whole, keys int) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	bySeq := map[uint16]*rtp.Packet{}
	last := l.newest
	for _, p := range l.c.video[l.n:] {
		if int16(p.SequenceNumber-l.newest) > 0 { // not one of before, once more
			bySeq[p.SequenceNumber] = p
			if int16(p.SequenceNumber-last) > 0 {
				last = p.SequenceNumber
			}
		}
	}
	key, unbroken := false, false
	var ts uint32
	for seq := l.newest + 1; seq != last+1; seq++ {
		p := bySeq[seq]
		if p == nil {
			unbroken = false
			continue
		}
		if p.Timestamp != ts {
			before := bySeq[seq-1]
			ts, unbroken, key = p.Timestamp, before != nil && before.Marker || startsKey(p.Payload), startsKey(p.Payload)
		}
		if p.Marker && unbroken {
			whole++
			if key {
				keys++
			}
		}
	}
	return whole, keys
}

// A viewer whose path does not carry the stream gets its key frames, whole, and all of it again soon after the path has
// recovered, each time anew. Who watches beside it sees everything.
func TestNarrow(t *testing.T) {
	t.Parallel()
	wide := netns.Impairment{Delay: 10 * time.Millisecond}
	narrow := wide
	narrow.Rate = 700_000
	f := farViewers(t, wide, wide)
	p := publish(t, f.hub, "demo", func(p *publisher) { p.Repeat, p.Obeys = 8, false }) // some 2 Mbit/s
	slow, good := f.play(t, "demo", in(t, f.far)), f.play(t, "demo", in(t, f.beside))
	testkit.Eventually(t, 10*time.Second, "all comes", func() bool { return len(slow.packets()) > 300 && len(good.packets()) > 300 })
	goodSeen, n := good.since(), p.now()
	for turn := range uint64(3) {
		f.link.Set(narrow, wide)
		testkit.Eventually(t, 15*time.Second, "the stream is thinned", func() bool { return f.server.Stats().Thinned > turn })
		slowSeen := slow.since()
		testkit.Eventually(t, 20*time.Second, "key frames come", func() bool { _, keys := slowSeen.pictures(); return keys >= 2 })
		whole, keys := slowSeen.pictures()
		t.Logf("over the narrow path: %d whole pictures, %d of them key frames", whole, keys)
		if whole > 10*keys {
			t.Error("the stream is not thinned")
		}
		f.link.Set(wide, wide)
		recovered := time.Now()
		slowSeen = slow.since()
		testkit.Eventually(t, 20*time.Second, "all comes again", func() bool { return slowSeen.ends() > 40 })
		back := time.Since(recovered)
		t.Logf("a second of the whole stream %v after the path has recovered", back.Round(100*time.Millisecond))
		if back > 10*time.Second {
			t.Errorf("the whole stream came only %v after the path had recovered", back)
		}
	}
	ends, sent := goodSeen.ends(), int((p.now()-n)/(time.Second/30))
	t.Logf("beside it: %d pictures of some %d", ends, sent)
	if ends < sent*8/10 || f.server.Stats().Thinned > 5 {
		t.Error("the viewer beside it missed pictures")
	}
}

// A viewer goes down to the layer that its path carries, and comes back soon after its recovery.
func TestNarrowLayers(t *testing.T) {
	t.Parallel()
	wide := netns.Impairment{Delay: 10 * time.Millisecond}
	narrow := wide
	narrow.Rate = 1_200_000
	f := farViewers(t, wide, wide)
	publishLayers(t, f.hub)
	slow, good := f.play(t, "demo", in(t, f.far)), f.play(t, "demo", in(t, f.beside))
	testkit.Eventually(t, 20*time.Second, "both have the best layer", func() bool { return slow.layer() == 2 && good.layer() == 2 })
	f.link.Set(narrow, wide)
	begun := time.Now()
	testkit.Eventually(t, 15*time.Second, "one goes down", func() bool { return slow.layer() == 0 })
	t.Logf("down after %v", time.Since(begun).Round(100*time.Millisecond))
	seen := slow.since()
	testkit.Eventually(t, 15*time.Second, "pictures of that layer", func() bool { return seen.ends() > 90 })
	f.link.Set(wide, wide)
	begun = time.Now()
	testkit.Eventually(t, 20*time.Second, "it has the best layer again", func() bool { return slow.layer() == 2 })
	t.Logf("up again after %v, with %d packets of probes", time.Since(begun).Round(100*time.Millisecond), f.server.Stats().Probes)
	if good.layer() != 2 {
		t.Errorf("the viewer beside it has layer %d", good.layer())
	}
	good.unbroken()
}
