package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gantry/internal/rtc"
	"gantry/internal/testkit/chromium"
	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
	"gantry/relay/egress/whep"
)

// accessUnits returns a second of H.264 from an encoder that is not ours, one key frame first.
func accessUnits(t *testing.T) [][]byte { return accessUnitsOf(t, "640x360") }

func accessUnitsOf(t *testing.T, size string) [][]byte {
	t.Helper()
	out, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size="+size+":rate=30", "-frames:v", "30",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "30",
		"-x264-params", "aud=1:slices=1:repeat-headers=1", "-f", "h264", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	var units [][]byte
	for nalu := range h264.NALUs(out) {
		if h264.TypeOf(nalu) == h264.AUD {
			units = append(units, nil)
			continue
		}
		units[len(units)-1] = h264.Append(units[len(units)-1], nalu)
	}
	if len(units) != 30 {
		t.Fatalf("%d access units", len(units))
	}
	return units
}

// A station is a relay that the test can break: a Hub and its WHEP server behind an address that stays.
type station struct {
	t       *testing.T
	hub     *relay.Hub
	listen  func() (*rtc.Port, error)
	server  *httptest.Server
	whep    atomic.Pointer[whep.Server]
	media   *rtc.Port
	publish atomic.Bool // whether media is written
}

var camera = []media.Track{{Codec: media.H264, ClockRate: 90000, Width: 640, Height: 360, Profile: "42c01e"}}

// newStation publishes units on all tracks; where a small picture is given, the first track has that.
func newStation(t *testing.T, tracks []media.Track, units [][]byte, small ...[][]byte) *station {
	return newStationAt(t, func() (*rtc.Port, error) {
		return rtc.Listen(rtc.Config{Addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	}, tracks, units, small...)
}

// newStationAt returns a station whose media goes by the port that listen opens.
func newStationAt(t *testing.T, listen func() (*rtc.Port, error), tracks []media.Track, units [][]byte, small ...[][]byte) *station {
	s := &station{t: t, hub: relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler)), listen: listen}
	s.open()
	s.server = serve(t, s.hub, nil, func(w http.ResponseWriter, r *http.Request) { s.whep.Load().ServeHTTP(w, r) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s.publish.Store(true)
	go func() {
		defer close(ended)
		s.broadcast(ctx, tracks, units, small...)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		s.close()
		_ = s.hub.Close()
	})
	return s
}

func (s *station) open() {
	port, err := s.listen()
	if err != nil {
		s.t.Fatal(err)
	}
	s.media = port
	s.whep.Store(whep.New(whep.Default(), s.hub, port, whep.Access{}, slog.New(slog.DiscardHandler)))
}

func (s *station) close() {
	_ = s.whep.Load().Close()
	_ = s.media.Close()
}

// broadcast publishes the units over and over, in their time.
func (s *station) broadcast(ctx context.Context, tracks []media.Track, units [][]byte, small ...[][]byte) {
	const interval = time.Second / 30
	pub, err := s.hub.Publish("studio/wide", relay.Publisher{Protocol: "test", Tracks: tracks})
	if err != nil {
		s.t.Error(err)
		return
	}
	defer pub.Close()
	begun := time.Now()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	sound := time.Duration(0)
	for n := 0; ; n++ {
		pts := time.Duration(n) * interval
		for i, track := range tracks {
			pub.Sync(uint8(i), pts, begun.Add(pts))
			if !s.publish.Load() {
				continue
			}
			if track.Codec.Video() {
				unit := units[n%len(units)]
				if i == 0 && len(small) > 0 {
					unit = small[0][n%len(units)]
				}
				pub.Write(&media.Packet{Track: uint8(i), PTS: pts, DTS: pts, Start: true, End: true, Key: n%len(units) == 0, Data: unit})
				continue
			}
			for ; sound <= pts; sound += 20 * time.Millisecond { // Opus: 20 ms of silence
				pub.Write(&media.Packet{Track: uint8(i), PTS: sound, DTS: sound, Start: true, End: true, Key: true, Data: []byte{0xfc, 0xff, 0xfe}})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

const playing = status + `.state === "playing"`

func playerPlays(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	page.Navigate(s.server.URL + "/play/studio/wide?stats=1")
	page.Wait(15*time.Second, playing, status)
	frames := `(document.querySelector("gantry-player").player.stats?.video?.frames ?? 0)`
	page.Wait(10*time.Second, frames+" > 60", `document.querySelector("gantry-player").player.stats`)
	t.Logf("stats: %s", chromium.Eval[string](page, `JSON.stringify(document.querySelector("gantry-player").player.stats)`))
	text := chromium.Eval[string](page, `document.querySelector("gantry-player").shadowRoot.querySelector(".stats").innerText`)
	for _, want := range []string{"640×360", "H264 Constrained Baseline", "UDP  127.0.0.1:", "first picture after"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the overlay:\n%s", want, text)
		}
	}
	page.Screenshot("playing")
	// The overlay goes at a key press.
	chromium.Eval[bool](page, `document.dispatchEvent(new KeyboardEvent("keydown", {key: "i", bubbles: true}))`)
	if !chromium.Eval[bool](page, `document.querySelector("gantry-player").shadowRoot.querySelector(".stats").hidden`) {
		t.Error("the overlay cannot be turned off")
	}
	// A page that goes away ends its session at the relay.
	page.Navigate("about:blank")
	deadline := time.Now().Add(5 * time.Second)
	for viewers := 1; viewers > 0; viewers = s.hub.Streams()[0].Viewers {
		if time.Now().After(deadline) {
			t.Fatalf("%d viewers after the page has gone", viewers)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A publisher that stops for a while costs no session: the picture goes on by itself.
func playerWaitsForThePublisher(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	page.Navigate(s.server.URL + "/play/studio/wide")
	page.Wait(15*time.Second, playing, status)
	s.publish.Store(false)
	page.Wait(15*time.Second, status+`.state === "stalled" && `+status+`.reason === "stalled"`, status)
	if text := chromium.Eval[string](page, visible); !strings.Contains(text, "The publisher has stopped sending.") {
		t.Errorf("the viewer reads:\n%s", text)
	}
	page.Screenshot("stalled")
	s.publish.Store(true)
	page.Wait(10*time.Second, playing, status)
}

// A relay that is restarted, with another key and at another media port, is found again.
func playerSurvivesTheRelay(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	page.Navigate(s.server.URL + "/play/studio/wide")
	page.Wait(15*time.Second, playing, status)
	chromium.Eval[bool](page, `(window.states = [], document.querySelector("gantry-player").addEventListener("state",
		(e) => states.push([e.detail.state, e.detail.reason])), true)`)
	s.close()
	s.open()
	page.Wait(20*time.Second, `states.length > 0 && `+playing, "states")
	t.Logf("states: %s", chromium.Eval[string](page, "JSON.stringify(states)"))
}

// between puts a proxy in front of the relay that changes offers and answers, and keeps the browser's candidates to itself:
// the relay would find a way back by them. It returns the proxy's address.
func (s *station) between(t *testing.T, offer, answer func(sdp string) string) string {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PATCH" && r.Header.Get("Content-Type") != "application/sdp" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		described := r.Method == "POST" && r.Header.Get("Content-Type") == "application/sdp"
		if described {
			sdp, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(offer(string(sdp))))
		}
		rec := httptest.NewRecorder()
		s.server.Config.Handler.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		text := rec.Body.String()
		if described {
			text = answer(text)
		}
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

func unchanged(sdp string) string { return sdp }

// Where the relay's media cannot come through, the viewer reads from where it should have come.
func playerSaysThatMediaIsBlocked(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	page.Navigate(s.between(t, unchanged, func(sdp string) string {
		return strings.ReplaceAll(sdp, "127.0.0.1", "203.0.113.9") // an address that nobody has (RFC 5737)
	}) + "/play/studio/wide")
	page.Wait(20*time.Second, status+`.reason === "no-route"`, status)
	text := chromium.Eval[string](page, visible)
	for _, want := range []string{"cannot get through", fmt.Sprintf("203.0.113.9:%d udp", s.media.Addr().Port()), "--public-address"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in what the viewer reads:\n%s", want, text)
		}
	}
	page.Screenshot("no-route")
}

// Where UDP does not come through, TCP does, and the viewer can see it.
func playerPlaysOverTCP(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	udp := regexp.MustCompile(`(?mi)^a=candidate:\S+ 1 udp .*\r\n`)
	page.Navigate(s.between(t, unchanged, func(sdp string) string { return udp.ReplaceAllString(sdp, "") }) + "/play/studio/wide?stats=1")
	page.Wait(20*time.Second, playing, status)
	page.Wait(5*time.Second, `document.querySelector("gantry-player").player.stats.path?.protocol === "tcp"`, `document.querySelector("gantry-player").player.stats`)
	page.Wait(5*time.Second, `document.querySelector("gantry-player").player.stats.video.fps > 20`, `document.querySelector("gantry-player").player.stats`)
}

// A relay that cannot take the player's offer makes its own (WHEP §4.2), which the player answers.
func playerTakesTheRelaysOffer(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	offers := 0
	page.Navigate(s.between(t, func(sdp string) string {
		offers++
		return strings.ReplaceAll(sdp, " H264/90000", " unheard-of/90000")
	}, unchanged) + "/play/studio/wide")
	page.Wait(20*time.Second, playing, status)
	if offers != 1 {
		t.Errorf("%d offers until it played", offers)
	}
}
