package webui

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gantry/internal/health"
	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fakeBox struct{ s Status }

func (b fakeBox) Status() Status                { return b.s }
func (b fakeBox) StartUplink(name string) error { return b.steer(name, "connecting") }
func (b fakeBox) StopUplink(name string) error  { return b.steer(name, "stopped") }

func (b fakeBox) steer(name, state string) error {
	for i := range b.s.Uplinks {
		if b.s.Uplinks[i].Name == name {
			b.s.Uplinks[i].State = state
			return nil
		}
	}
	return ErrNoUplink
}

func TestSteering(t *testing.T) {
	box := sample()
	h := Handler(box, nil)
	for _, c := range []struct {
		path, header, value string
		code                int
		state               string
	}{
		{"relay/stop", "", "", 204, "stopped"}, // curl
		{"relay/stop", "Sec-Fetch-Site", "same-origin", 204, "stopped"},
		{"relay/start", "Sec-Fetch-Site", "cross-site", 403, "stopped"},
		{"relay/start", "Sec-Fetch-Site", "same-site", 403, "stopped"},
		{"relay/start", "Origin", "http://evil.example", 403, "stopped"},
		{"relay/start", "Origin", "http://localhost:8090", 204, "connecting"},
		{"relay/restart", "", "", 405, "connecting"},
		{"nobody/stop", "", "", 404, "connecting"},
	} {
		r := httptest.NewRequest("POST", "http://localhost:8090/api/v1/uplinks/"+c.path, nil)
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != c.code || box.s.Uplinks[0].State != c.state {
			t.Errorf("%v: %d %s", c, w.Code, box.s.Uplinks[0].State)
		}
	}
	r := httptest.NewRequest("POST", "http://evil.example/api/v1/uplinks/relay/stop", nil)
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("another host: %d", w.Code)
	}
	if w := get(t, h, "localhost", "/api/v1/uplinks/relay/stop"); w.Code != 405 && w.Code != 404 {
		t.Errorf("GET: %d", w.Code)
	}
}

var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func sample() fakeBox {
	next := began.Add(99 * time.Second)
	return fakeBox{Status{
		Version: "1.2", Time: began.Add(90 * time.Second), Uptime: 90,
		Health: []health.Condition{
			{Code: "uplink-down", Subject: "backup", Severity: health.Failing, Reason: "connection refused", Since: began.Add(time.Minute)}},
		Video: Video{Name: "/dev/video0", Signal: true, Format: "1920x1080 NV12 60 fps", Rate: 59.94, Frames: 5400, Dropped: 2},
		Encoder: Encoder{Name: "libx264", Codec: "H264", Width: 1920, Height: 1080, Ceiling: 6_000_000, Target: 4_500_000,
			Bitrate: 4_410_000, Rate: 59.9, Took: 0.0042, KeyFrames: 46},
		Renditions: []Encoder{
			{Rendition: "low", Name: "libx264", Codec: "H264", Width: 640, Height: 360, Target: 500_000, Bitrate: 480_000, Rate: 59.9, Took: 0.0011},
			{Rendition: "tv", Reason: "no encoder for H265"},
		},
		CPU: 1.25, CPUs: 4,
		Audio: Audio{Name: "tone", Format: "48000 Hz 2 ch", Codec: "opus", Bitrate: 128000},
		Uplinks: []Uplink{
			{Name: "relay", State: "connected", Since: began.Add(2 * time.Second), Carries: 5_000_000, Layers: []string{"main", "low"}, Paused: []string{"main"}},
			{Name: "backup", State: "waiting", Since: began.Add(time.Minute), Reason: `<img src=x onerror="window.hacked=1">`, Next: &next, Dropped: 12},
		},
	}}
}

func get(t *testing.T, h http.Handler, host, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestStatusAndFiles(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "figures") })
	h := Handler(sample(), metrics)
	w := get(t, h, "127.0.0.1:8090", "/api/v1/status")
	var s Status
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || s.Uplinks[1].Next == nil || s.Encoder.Target != 4_500_000 || s.Health[0].Code != "uplink-down" {
		t.Errorf("%v %+v", err, s)
	}
	for path, want := range map[string]string{"/": "<title>Gantry", "/page.js": "EventSource", "/page.css": "--paper", "/icon.svg": "<svg", "/metrics": "figures"} {
		w := get(t, h, "localhost", path)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d", path, w.Code)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
	if w := get(t, Handler(sample(), nil), "localhost", "/metrics"); w.Code != 404 {
		t.Errorf("metrics that are not there: %d", w.Code)
	}
	r := httptest.NewRequest("POST", "http://localhost/api/v1/status", nil)
	post := httptest.NewRecorder()
	if h.ServeHTTP(post, r); post.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", post.Code)
	}
}

// A web page elsewhere that lets its name point to 127.0.0.1 does not get at the box through the browser.
func TestForeignNamesAreRefused(t *testing.T) {
	h := Handler(sample(), nil)
	for host, want := range map[string]int{
		"localhost:8090": 200, "127.0.0.1:8090": 200, "[::1]:8090": 200, "127.0.0.2": 200,
		"evil.example": 403, "evil.example:8090": 403, "localhost.evil.example": 403, "192.0.2.1:8090": 403, "": 403,
	} {
		if w := get(t, h, host, "/api/v1/status"); w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestEvents(t *testing.T) {
	server := httptest.NewServer(Handler(sample(), nil))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func() *http.Response {
		req, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/api/v1/events", nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	res := open()
	lines := bufio.NewScanner(res.Body)
	for range 2 {
		var s Status
		if !lines.Scan() || json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), &s) != nil || s.Version != "1.2" {
			t.Fatalf("event %q", lines.Text())
		}
		if !lines.Scan() || lines.Text() != "" {
			t.Fatalf("after the event %q", lines.Text())
		}
	}
	for range maxWatchers - 1 {
		if res := open(); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
	if res := open(); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s", res.Status)
	}
	cancel()
	testkit.Eventually(t, 5*time.Second, "there is room again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/api/v1/events", nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == 200
	})
}

// A browser shows the facts, takes what comes from outside as text, and breaks no policy.
func TestPage(t *testing.T) {
	server := httptest.NewServer(Handler(sample(), nil))
	defer server.Close()
	defer server.CloseClientConnections() // the page's event stream
	p := chromium.Open(t, chromium.Options{}, server.URL)
	p.Wait(20*time.Second, `document.querySelector("#summary").textContent === "On the air to 1 of 2"`, "the page shows the summary")
	for _, want := range []string{"1920x1080 NV12 60 fps", "4.41 Mbit/s", "4.50 Mbit/s of 6.00 Mbit/s", "relay: on the air for 1 min 28 s",
		"backup: not connected", "<img src=x", "in 9 s", "A destination cannot be reached: backup", "connection refused (for 30 s)", "Up 1 min 30 s",
		"H264 640x360", "480 kbit/s of 500 kbit/s", "1.1 ms of 17 ms a picture", "no encoder for H265", "1.25 of 4 busy", "main (paused: no room), low"} {
		p.Wait(time.Second, `document.body.innerText.includes(`+"`"+want+"`"+`)`, "the page shows "+want)
	}
	p.Wait(time.Second, `window.hacked === undefined && document.querySelectorAll("main img:not(#picture img)").length === 0`, "no markup from outside")
	if text := p.Console(); text != "" {
		t.Errorf("the console:\n%s", text)
	}
}
