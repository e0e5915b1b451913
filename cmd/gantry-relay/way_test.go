package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/proto/whip"
)

// opensslHMAC is what a TURN server computes, by an implementation that is not ours.
func opensslHMAC(t *testing.T, secret, text string) string {
	t.Helper()
	cmd := exec.Command("openssl", "dgst", "-sha1", "-hmac", secret, "-binary")
	cmd.Stdin = strings.NewReader(text)
	sum, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sum)
}

func TestICEServers(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		server iceServer
		want   string // a Link field, or what is wrong
	}{
		{iceServer{URL: "stun:stun.example:3478"}, `<stun:stun.example:3478>; rel="ice-server"`},
		{iceServer{URL: "turn:turn.example?transport=tcp", Username: "u", Credential: "p"},
			`<turn:turn.example?transport=tcp>; rel="ice-server"; credential="p"; credential-type="password"; username="u"`},
		{iceServer{URL: "turns:[2001:db8::1]:5349", Secret: "s3cret"},
			`<turns:[2001:db8::1]:5349>; rel="ice-server"; credential="` + opensslHMAC(t, "s3cret", "1700043200") + `"; credential-type="password"; username="1700043200"`},
		{iceServer{URL: "https://turn.example"}, "none of stun:"},
		{iceServer{URL: "turn:turn.example"}, "wants username and credential, or secret"},
		{iceServer{URL: "turn:turn.example", Credential: "p", Secret: "s"}, "not both"},
		{iceServer{URL: "stun:stun.example", Username: "u"}, "no credentials"},
	} {
		got := c.server.link(at).String()
		if err := c.server.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want && (strings.HasPrefix(c.want, "<") || !strings.Contains(got, c.want)) {
			t.Errorf("%v:\ngot  %s\nwant %s", c.server.URL, got, c.want)
		}
	}
}

func TestForwardedFor(t *testing.T) {
	var proxies []network
	for _, s := range []string{"127.0.0.1", "10.0.0.0/8", "2001:db8::/32"} {
		var n network
		if err := n.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		proxies = append(proxies, n)
	}
	var seen string
	h := behind(proxies, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.RemoteAddr }))
	for _, c := range []struct {
		remote string
		fields []string
		want   string
	}{
		{"127.0.0.1:4000", nil, "127.0.0.1:4000"},
		{"127.0.0.1:4000", []string{"203.0.113.9"}, "203.0.113.9:0"},
		{"203.0.113.9:4000", []string{"198.51.100.1"}, "203.0.113.9:4000"},        // not a proxy of ours
		{"10.1.2.3:4000", []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9:0"}, // the first is what the client says
		{"10.1.2.3:4000", []string{"198.51.100.1", "203.0.113.9, 10.9.9.9"}, "203.0.113.9:0"},
		{"[2001:db8::5]:4000", []string{"[2a00::1]:555"}, "[2a00::1]:0"},
		{"127.0.0.1:4000", []string{"unknown"}, "127.0.0.1:4000"},
		{"[::ffff:127.0.0.1]:4000", []string{"::ffff:203.0.113.9"}, "203.0.113.9:0"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		r.Header["X-Forwarded-For"] = c.fields
		h.ServeHTTP(httptest.NewRecorder(), r)
		if seen != c.want {
			t.Errorf("%s, %q: %s, want %s", c.remote, c.fields, seen, c.want)
		}
	}
}

// A relay tells who may watch or publish, and nobody else, of its TURN servers; and is ICE-lite where it is told so.
func TestWayIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(file, []byte("publish-token: [publish-token-1]\nplay-token: [play-token-1]\nice-lite: true\ntrusted-proxy: [127.0.0.1]\n"+
		"ice-servers:\n  - url: stun:stun.example\n  - url: turn:turn.example\n    username: u\n    credential: p4ss\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := startRelay(t, "--config", file)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	options := func(path, token, preflight string) []whip.Link {
		t.Helper()
		r, _ := http.NewRequest(http.MethodOptions, base+path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		if preflight != "" {
			r.Header.Set("Access-Control-Request-Method", preflight)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return whip.ParseLinks(resp.Header.Values("Link"))
	}
	for _, c := range []struct {
		path, token, preflight string
		want                   int
	}{
		{"/whep/demo", "play-token-1", "", 2}, {"/whip/demo", "publish-token-1", "", 2},
		{"/whep/demo", "", "", 0}, {"/whip/demo", "play-token-1", "", 0}, {"/whep/demo", "play-token-1", "POST", 0},
	} {
		links := options(c.path, c.token, c.preflight)
		if len(links) != c.want || c.want == 2 && (links[1].Params["credential"] != "p4ss" || !links[0].Is(whip.RelICEServer)) {
			t.Errorf("%s with %q: %v", c.path, c.token, links)
		}
	}
	// The limits count the proxy's clients each for themselves.
	status := func(client http.Client, from string) int {
		r, _ := http.NewRequest(http.MethodPost, base+"/whep/demo", nil)
		r.Header.Set("X-Forwarded-For", from)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	limited := false
	for i := 0; i < 400 && !limited; i++ {
		limited = status(*client, "198.51.100.7, 203.0.113.9") == http.StatusTooManyRequests
	}
	if !limited || status(*client, "203.0.113.10") != http.StatusUnauthorized {
		t.Errorf("limited: %v", limited)
	}
}
