package whep_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/rtc"
	"gantry/internal/testkit"
)

// A viewer whose certificate is not the one that its offer names gets nothing: somebody is in between.
func TestWrongFingerprint(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{offer: func(offer string) string {
		return regexp.MustCompile(`(a=fingerprint:sha-256 )..:..`).ReplaceAllString(offer, "${1}00:11")
	}})
	testkit.Eventually(t, 10*time.Second, "the session ends", func() bool {
		return c.ended()
	})
	if n, viewers := len(c.packets()), b.server.Stats().Viewers; n > 0 || viewers > 0 {
		t.Errorf("%d packets were sent, %d viewers", n, viewers)
	}
}

// ended tells whether the client's connection has failed or was closed.
func (c *client) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state >= webrtc.PeerConnectionStateDisconnected
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *rtc.Config) { c.Addr = "[::1]:0" })
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{setting: func(e *webrtc.SettingEngine) {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP6})
	}})
	c.pictures(10, p)
}

func TestLite(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *rtc.Config) { c.Lite = true })
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	if !strings.Contains(c.pc.RemoteDescription().SDP, "a=ice-lite") {
		t.Error("the answer does not say a=ice-lite")
	}
	c.pictures(10, p)
}

// A public address is told besides the machine's own.
func TestPublicAddress(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *rtc.Config) { c.PublicAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.7")} })
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	answer := c.pc.RemoteDescription().SDP
	for _, want := range []string{` udp \d+ 192\.0\.2\.7 \d+ typ host`, ` udp \d+ 127\.0\.0\.1 \d+ typ host`} {
		if !regexp.MustCompile(want).MatchString(answer) {
			t.Errorf("no candidate like %s in\n%s", want, answer)
		}
	}
	c.pictures(10, p)
}
