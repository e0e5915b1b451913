package web

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gantry/internal/metrics"
	"gantry/internal/secret"
	"gantry/internal/testkit"
	"gantry/relay"
	"gantry/relay/access"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fixedHub shows the same streams each time.
type fixedHub []relay.Info

func (h fixedHub) Streams() []relay.Info { return clone(h) }

// clone copies deep enough for what a handler may change.
func clone(infos []relay.Info) []relay.Info {
	all := append([]relay.Info{}, infos...)
	for i := range all {
		all[i].Publishers = append([]relay.Published{}, all[i].Publishers...)
	}
	return all
}

var onAir = fixedHub{
	{Name: "demo", Live: true, Since: time.Now().Add(-83 * time.Minute), Viewers: 12, Publishers: []relay.Published{{
		Active: true, Protocol: "whip", Remote: "192.0.2.7:50123", Since: time.Now().Add(-83 * time.Minute),
		Tracks: []relay.TrackInfo{
			{Codec: "H264", Profile: "42e01f", Width: 1280, Height: 720, Rate: 30, Bitrate: 2_480_000, Packets: 9000, Frames: 3000, KeyFrames: 50, KeyInterval: 2},
			{Codec: "opus", Channels: 2, Rate: 50, Bitrate: 127_000, Packets: 5000, Frames: 5000},
		},
	}}},
	{Name: "studio/wide", Live: true, Since: time.Now().Add(-40 * time.Second), Viewers: 1, Dropped: 7, Publishers: []relay.Published{{
		Active: true, Protocol: "srt", Remote: "198.51.100.20:4200", Since: time.Now().Add(-40 * time.Second),
		Tracks: []relay.TrackInfo{{Codec: "H264", Profile: "640028", Width: 1920, Height: 1080, Rate: 29.97, Bitrate: 6_100_000, Lost: 3}},
		Faults: []relay.Fault{{Code: "b-frames", Reason: "The encoder sends B-frames: browsers show them out of order. Set bf=0."}},
	}, {
		Protocol: "whip", Remote: "198.51.100.21:4201", Priority: -1, Since: time.Now().Add(-40 * time.Second),
		Tracks: []relay.TrackInfo{{Codec: "H264", Profile: "42e01f", Width: 1280, Height: 720, Rate: 30, Bitrate: 2_000_000}},
	}}},
	{Name: "backstage", Since: time.Now().Add(-3 * time.Hour), Viewers: 2, Publishers: []relay.Published{}},
}

const publishToken, playToken = "publish-token-1", "play-token-1"

func guarded() *access.Policy {
	return access.New(access.Config{Publish: []secret.String{publishToken}, Play: []secret.String{playToken}})
}

func site(t testing.TB, hub Hub, policy *access.Policy) (*Site, *metrics.Registry) {
	t.Helper()
	r := metrics.New()
	return New(Options{Hub: hub, Policy: policy, Metrics: r, Version: "test", Log: slog.New(slog.DiscardHandler)}), r
}

func get(t testing.TB, h http.Handler, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRoutes(t *testing.T) {
	s, _ := site(t, onAir, nil)
	for _, c := range []struct {
		path, mediaType string
		status          int
	}{
		{"/", "text/html; charset=utf-8", 200},
		{"/play/demo", "text/html; charset=utf-8", 200},
		{"/play/studio/wide", "text/html; charset=utf-8", 200},
		{"/gantry-player.js", "text/javascript; charset=utf-8", 200},
		{"/gantry-player/element.js", "text/javascript; charset=utf-8", 200},
		{"/play.js", "text/javascript; charset=utf-8", 200},
		{"/page.css", "text/css; charset=utf-8", 200},
		{"/favicon.svg", "image/svg+xml", 200},
		{"/api/v1/streams", "application/json", 200},
		{"/api/v1/time", "application/json", 200},
		{"/healthz", "text/plain; charset=utf-8", 200},
		{"/assets/play.html", "text/plain; charset=utf-8", 404},
		{"/play.html", "text/plain; charset=utf-8", 404},
		{"/nothing", "text/plain; charset=utf-8", 404},
	} {
		r := get(t, s, c.path)
		if r.StatusCode != c.status || r.Header.Get("Content-Type") != c.mediaType {
			t.Errorf("%s: %d %s, want %d %s", c.path, r.StatusCode, r.Header.Get("Content-Type"), c.status, c.mediaType)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: without security headers: %v", c.path, r.Header)
		}
	}
}

func TestPagesRunOwnScriptsOnly(t *testing.T) {
	s, _ := site(t, onAir, nil)
	for path, frames := range map[string]string{"/": "frame-ancestors 'self'", "/play/demo": "frame-ancestors *"} {
		csp := get(t, s, path).Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", frames} {
			if !strings.Contains(csp+";", want+";") {
				t.Errorf("%s: no %q in %q", path, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %q", path, csp)
		}
	}
}

func TestModulesAreForAllOrigins(t *testing.T) {
	s, _ := site(t, onAir, nil)
	for _, name := range modules {
		r := get(t, s, "/"+name)
		if r.Header.Get("Access-Control-Allow-Origin") != "*" || r.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
			t.Errorf("%s: another page cannot import it: %v", name, r.Header)
		}
		etag := r.Header.Get("ETag")
		if again := get(t, s, "/"+name, "If-None-Match", etag); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %d for a cached copy", name, again.StatusCode)
		}
	}
}

func TestStreams(t *testing.T) {
	s, _ := site(t, onAir, nil)
	r := get(t, s, "/api/v1/streams")
	var got Streams
	if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if len(got.Streams) != 3 || got.Streams[0].Name != "demo" || got.Streams[0].Publishers[0].Remote != "192.0.2.7:50123" ||
		got.Streams[1].Publishers[0].Faults[0].Code != "b-frames" || got.PlayTokenNeeded || got.PublishTokenNeeded || got.Version != "test" {
		t.Errorf("got %+v", got)
	}
	s, _ = site(t, fixedHub{}, nil)
	if b := body(t, get(t, s, "/api/v1/streams")); !strings.Contains(b, `"streams":[]`) {
		t.Errorf("no streams are not an empty list: %s", b)
	}
}

func TestStreamsAskForAToken(t *testing.T) {
	s, _ := site(t, onAir, guarded())
	for _, c := range []struct {
		target, header string
		status         int
		remote         bool
	}{
		{"/api/v1/streams", "", 401, false},
		{"/api/v1/streams", "Bearer wrong-token", 401, false},
		{"/api/v1/streams?token=wrong-token", "", 401, false},
		{"/api/v1/streams", "Bearer " + playToken, 200, false},
		{"/api/v1/streams?token=" + playToken, "", 200, false},
		{"/api/v1/streams", "Bearer " + publishToken, 200, true},
	} {
		r := get(t, s, c.target, "Authorization", c.header)
		text := body(t, r)
		if r.StatusCode != c.status {
			t.Errorf("%s %q: %d, want %d", c.target, c.header, r.StatusCode, c.status)
		}
		if got := strings.Contains(text, "192.0.2.7"); got != c.remote {
			t.Errorf("%s %q: publishers' addresses shown: %v", c.target, c.header, got)
		}
		if strings.Contains(text, playToken) || strings.Contains(text, publishToken) {
			t.Errorf("%s %q: shows a token: %s", c.target, c.header, text)
		}
		if c.status == 401 && (r.Header.Get("WWW-Authenticate") != "Bearer" || r.Header.Get("Content-Type") != "application/problem+json" || strings.Contains(text, "demo")) {
			t.Errorf("%s %q: %v %s", c.target, c.header, r.Header, text)
		}
	}
	if r := get(t, s, "/"); r.StatusCode != 401 {
		t.Errorf("/ without a token: %d", r.StatusCode)
	}
	if r := get(t, s, "/?token="+playToken); r.StatusCode != 200 {
		t.Errorf("/ with a token: %d", r.StatusCode)
	}
	if r := get(t, s, "/play/demo"); r.StatusCode != 200 {
		t.Errorf("the player page cannot tell that a token is needed: %d", r.StatusCode)
	}
}

// With play tokens alone anybody may publish, but not therefore read the list.
func TestPlayTokensAlone(t *testing.T) {
	s, _ := site(t, onAir, access.New(access.Config{Play: []secret.String{playToken}}))
	if r := get(t, s, "/api/v1/streams"); r.StatusCode != 401 {
		t.Errorf("%d", r.StatusCode)
	}
}

func TestHealth(t *testing.T) {
	var fault error
	s := New(Options{Hub: onAir, Metrics: metrics.New(), Health: func() error { return fault }, Log: slog.New(slog.DiscardHandler)})
	if r := get(t, s, "/healthz"); r.StatusCode != 200 || body(t, r) != "ok\n" {
		t.Errorf("%d", r.StatusCode)
	}
	fault = errors.New("stopping")
	if r := get(t, s, "/healthz"); r.StatusCode != 503 || body(t, r) != "stopping\n" {
		t.Errorf("%d", r.StatusCode)
	}
}

func TestMetrics(t *testing.T) {
	s, registry := site(t, onAir, guarded())
	h := Count(registry, s)
	for _, path := range []string{"/", "/play/demo", "/play/other", "/whep/a", "/x1", "/x2", "/gantry-player.js"} {
		get(t, h, path)
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("BREW", "/pot", nil))
	text := body(t, get(t, h, "/metrics"))
	for _, want := range []string{
		"gantry_relay_live_streams 2\n", "gantry_relay_waiting_streams 1\n", "gantry_ingest_publisher_sessions 3\n",
		"gantry_egress_viewer_sessions 15\n", "gantry_ingest_received_bits_per_second 1.0707e+07\n", "gantry_ingest_faulty_streams 1\n",
		`gantry_http_answered_requests_total{code="200",method="GET",route="play"} 2` + "\n",
		`gantry_http_answered_requests_total{code="404",method="GET",route="other"} 2` + "\n",
		`gantry_http_answered_requests_total{code="404",method="other",route="other"} 1` + "\n",
		`gantry_http_answered_requests_total{code="200",method="GET",route="asset"} 1` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "demo") || strings.Contains(text, "192.0.2") {
		t.Errorf("what clients sent is a label:\n%s", text)
	}
}
