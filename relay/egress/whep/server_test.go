package whep_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
)

func TestViewerSeesTheStream(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{interceptor: true})
	c.pictures(60, p)
	c.mu.Lock()
	audio := len(c.audio)
	c.mu.Unlock()
	if audio < 30 {
		t.Errorf("%d packets of sound", audio)
	}
	if s := b.server.Stats(); s.Viewers != 1 {
		t.Errorf("%d viewers", s.Viewers)
	}
	testkit.Eventually(t, 5*time.Second, "the viewer's reports are heard", func() bool {
		v := b.server.Viewers("demo")
		return len(v) == 1 && v[0].Session != "" && v[0].Quality.RTT > 0 && v[0].Quality.Lost == 0
	})
	status, _, body := b.do(t, http.MethodDelete, c.location, "", "", nil)
	if status != http.StatusOK {
		t.Fatalf("DELETE: %d %s", status, body)
	}
	testkit.Eventually(t, 5*time.Second, "the viewer hears of it", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state == webrtc.PeerConnectionStateClosed || c.state == webrtc.PeerConnectionStateDisconnected
	})
	testkit.Eventually(t, 5*time.Second, "nobody watches", func() bool { return b.server.Stats().Viewers == 0 })
}
