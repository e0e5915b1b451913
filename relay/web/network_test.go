package web

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gantry/internal/rtc"
	"gantry/internal/testkit/chromium"
	"gantry/internal/testkit/netns"
)

// The network between viewer and relay goes, and comes back: so does the picture, and nobody is blamed who did nothing.
func TestPlayerSurvivesTheNetwork(t *testing.T) {
	delay := netns.Impairment{Delay: 20 * time.Millisecond}
	here, there, link := netns.Pair(t, delay, delay)
	s := newStationAt(t, func() (port *rtc.Port, err error) {
		err = there.Do(func() (err error) {
			port, err = rtc.Listen(rtc.Config{Addr: net.JoinHostPort(there.Addr.String(), "0")}, slog.New(slog.DiscardHandler))
			return err
		})
		return port, err
	}, camera, accessUnits(t))
	listener, err := there.Listen("tcp", net.JoinHostPort(there.Addr.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	far := &httptest.Server{Listener: listener, Config: &http.Server{Handler: s.server.Config.Handler}}
	far.Start()
	t.Cleanup(far.Close)

	page := chromium.Open(t, chromium.Options{Prefix: here.Prefix()}, far.URL+"/play/studio/wide?stats=1")
	page.Wait(20*time.Second, playing, status)
	page.Wait(10*time.Second, `document.querySelector("gantry-player").player.stats.latency.median !== null`, "")
	if got := chromium.Eval[float64](page, `document.querySelector("gantry-player").player.stats.latency.median`); got < 20 {
		t.Errorf("latency %.0f ms over a path of 20 ms", got)
	}
	chromium.Eval[bool](page, `(window.states = [], document.querySelector("gantry-player").addEventListener("state",
		(e) => states.push([e.detail.state, e.detail.reason])), true)`)
	dead := netns.Impairment{Loss: 1}
	link.Set(dead, dead)
	page.Wait(20*time.Second, `states.some(([, reason]) => reason === "lost")`, "states")
	link.Set(delay, delay)
	begun := time.Now()
	page.Wait(30*time.Second, playing, status)
	states := chromium.Eval[json.RawMessage](page, "states")
	t.Logf("back after %v: %s", time.Since(begun).Round(100*time.Millisecond), states)
	if strings.Contains(string(states), `["stalled","stalled"]`) {
		t.Errorf("the publisher was blamed: %s", states)
	}
}
