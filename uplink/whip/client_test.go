package whip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/proto/whip"
	"gantry/uplink"
)

// A reply is what a scripted server says to one request.
type reply struct {
	status int
	header map[string]string
	body   string
}

// script serves replies by path and returns the server and what was asked of it: method, path, whether with the token.
func script(t *testing.T, replies map[string]reply) (*httptest.Server, func() []string) {
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		_, _ = io.Copy(io.Discard, r.Body)
		with := ""
		if r.Header.Get("Authorization") == "Bearer "+token {
			with = " token"
		}
		asked = append(asked, r.Method+" "+r.URL.RequestURI()+with)
		mu.Unlock()
		reply, ok := replies[r.Method+" "+r.URL.Path]
		if !ok {
			reply.status = http.StatusOK
		}
		for k, v := range reply.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(reply.status)
		_, _ = io.WriteString(w, reply.body)
	}))
	t.Cleanup(server.Close)
	return server, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), asked...)
	}
}

func created(location, body string) reply {
	return reply{201, map[string]string{"Location": location, "Content-Type": "application/sdp", "ETag": `"x"`}, body}
}

// Servers that misbehave: Run returns soon, says why in words, classified for the retry loop, and leaves no session behind.
func TestMisbehavingServers(t *testing.T) {
	const at = "POST /whip/test"
	problem := map[string]string{"Content-Type": "application/problem+json"}
	tests := map[string]struct {
		replies map[string]reply
		want    string
		refused bool
		after   time.Duration
		deletes bool
	}{
		"401":                {replies: map[string]reply{at: {401, problem, `{"title":"x","detail":"token has expired"}`}}, want: "401 Unauthorized: token has expired", refused: true},
		"403 in plain text":  {replies: map[string]reply{at: {403, nil, "not from here\nstack trace"}}, want: "403 Forbidden: not from here", refused: true},
		"404":                {replies: map[string]reply{at: {404, nil, ""}}, want: "404", refused: true},
		"422":                {replies: map[string]reply{at: {422, problem, `{"title":"no H264"}`}}, want: "422 Unprocessable Entity: no H264", refused: true},
		"418":                {replies: map[string]reply{at: {418, nil, ""}}, want: "418", refused: true},
		"500":                {replies: map[string]reply{at: {500, map[string]string{"Content-Type": "text/html"}, "<html>"}}, want: "500 Internal Server Error"},
		"503":                {replies: map[string]reply{at: {503, map[string]string{"Retry-After": "7"}, ""}}, want: "503", after: 7 * time.Second},
		"503 without a time": {replies: map[string]reply{at: {503, nil, ""}}, want: "503", after: defaultRetryAfter},
		"429 for ever":       {replies: map[string]reply{at: {429, map[string]string{"Retry-After": "4000000000"}, ""}}, want: "429", after: maxRetryAfter},
		"409":                {replies: map[string]reply{at: {409, map[string]string{"Retry-After": "2"}, "somebody publishes here"}}, want: "somebody publishes here", after: 2 * time.Second},
		"200":                {replies: map[string]reply{at: {200, nil, ""}}, want: "200 OK instead of 201"},
		"301":                {replies: map[string]reply{at: {301, map[string]string{"Location": "/elsewhere"}, ""}}, want: "RFC 9725 asks for 307", refused: true},
		"302":                {replies: map[string]reply{at: {302, map[string]string{"Location": "/elsewhere"}, ""}}, want: "RFC 9725 asks for 307", refused: true},
		"307 to nowhere":     {replies: map[string]reply{at: {307, nil, ""}}, want: "redirect: no Location"},
		"307 to a file":      {replies: map[string]reply{at: {307, map[string]string{"Location": "file:///etc/passwd"}, ""}}, want: "leads nowhere"},
		"307 in a circle":    {replies: map[string]reply{at: {307, map[string]string{"Location": "test"}, ""}}, want: "more than 5 redirects"},
		"no Location":        {replies: map[string]reply{at: {201, map[string]string{"Content-Type": "application/sdp"}, "v=0"}}, want: "no Location"},
		"Location no URL":    {replies: map[string]reply{at: created("http://[", "v=0")}, want: "Location is no URL"},
		"wrong content type": {replies: map[string]reply{at: {201, map[string]string{"Location": "/s", "Content-Type": "text/html"}, "v=0"}}, want: `content type "text/html"`, deletes: true},
		"empty answer":       {replies: map[string]reply{at: created("/s", "")}, want: "0 media sections", deletes: true},
		"no SDP":             {replies: map[string]reply{at: created("/s", "<html>")}, want: "malformed SDP", deletes: true},
		"no media":           {replies: map[string]reply{at: created("/s", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")}, want: "0 media sections for an offer of 2", deletes: true},
		"video rejected": {replies: map[string]reply{at: created("/s", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"+
			"m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\n")},
			want: "server rejects the video", deletes: true},
		"sends instead of receiving": {replies: map[string]reply{at: created("/s", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"+
			"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=sendonly\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=sendonly\r\n")},
			want: "video is sendonly, where a server must receive", deletes: true},
		"no ICE credentials": {replies: map[string]reply{at: created("/s", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"+
			"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\n")},
			want: "answer: ", deletes: true},
		"huge answer":  {replies: map[string]reply{at: created("/s", strings.Repeat("a=x\r\n", 100_000))}, want: "longer than 131072 bytes", deletes: true},
		"huge problem": {replies: map[string]reply{at: {400, problem, `{"detail":"` + strings.Repeat("x", 1<<20) + `"}`}}, want: "400 Bad Request", refused: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, asked := script(t, tt.replies)
			c := config(server.URL + "/whip/test?key=hidden")
			c.Token = token
			s, err := New(c, slog.New(slog.DiscardHandler))
			must(t, err)
			prog := newProgramme(1_000_000)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err = s.Run(ctx, prog.Program)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), token) || len(err.Error()) > 600 {
				t.Errorf("error shows too much: %v", err)
			}
			if got := errors.Is(err, uplink.ErrRefused); got != tt.refused {
				t.Errorf("refused: %v (%v)", got, err)
			}
			var after *uplink.RetryAfter
			if errors.As(err, &after); (after == nil) != (tt.after == 0) || after != nil && after.After != tt.after {
				t.Errorf("retry after %+v, want %v", after, tt.after)
			}
			all := asked()
			if got := all[len(all)-1] == "DELETE /s token"; got != tt.deletes {
				t.Errorf("requests %q", all)
			}
		})
	}
}

func TestRefusedConnection(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	s, err := New(config(server.URL+"/whip/test?key=hidden"), slog.New(slog.DiscardHandler))
	must(t, err)
	err = s.Run(context.Background(), newProgramme(1_000_000).Program)
	if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "hidden") || errors.Is(err, uplink.ErrRefused) {
		t.Errorf("error %v", err)
	}
}

func TestLocation(t *testing.T) {
	for location, want := range map[string]string{
		"/session/1":                     "http://HOST/session/1",
		"session/1":                      "http://HOST/a/session/1",
		"../x?y=1":                       "http://HOST/x?y=1",
		"?s=1":                           "http://HOST/a/endpoint?s=1",
		"//other.example/1":              "http://other.example/1",
		"http://other.example:99/1":      "http://other.example:99/1",
		"https://other.example/1#x":      "https://other.example/1",
		"http://HOST/a/b/../session%2F1": "http://HOST/a/session%2F1",
	} {
		server, _ := script(t, nil)
		host := strings.TrimPrefix(server.URL, "http://")
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", strings.ReplaceAll(location, "HOST", host))
			w.Header().Set("Content-Type", "application/sdp; charset=utf-8")
			w.WriteHeader(201)
		})
		c, err := newClient(server.URL+"/a/endpoint?k=v", token)
		must(t, err)
		if _, err := c.post(context.Background(), "v=0"); err != nil {
			t.Errorf("%s: %v", location, err)
		} else if got := c.session.String(); got != strings.ReplaceAll(want, "HOST", host) {
			t.Errorf("%s: session %s, want %s", location, got, want)
		}
		c.close()
	}
}

// The token follows redirects within the origin, and no further.
func TestRedirects(t *testing.T) {
	other, askedOther := script(t, map[string]reply{"POST /there": created("/s", "v=0")})
	server, asked := script(t, map[string]reply{
		"POST /whip/test": {307, map[string]string{"Location": "/second?x=1"}, ""},
		"POST /second":    {308, map[string]string{"Location": "third"}, ""},
		"POST /third":     {307, map[string]string{"Location": other.URL + "/there"}, ""},
	})
	c, err := newClient(server.URL+"/whip/test", token)
	must(t, err)
	defer c.close()
	_, err = c.post(context.Background(), "v=0")
	must(t, err)
	must(t, c.delete(context.Background()))
	if got := strings.Join(asked(), ", "); got != "POST /whip/test token, POST /second?x=1 token, POST /third token" {
		t.Errorf("asked %s", got)
	}
	if got := strings.Join(askedOther(), ", "); got != "POST /there, DELETE /s" {
		t.Errorf("asked the other %s", got)
	}
}

func TestNoTokenNoHeader(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header["Authorization"]; ok {
			t.Error("an Authorization header without a token")
		}
		w.WriteHeader(500)
	}))
	defer server.Close()
	c, err := newClient(server.URL, "")
	must(t, err)
	defer c.close()
	if _, err := c.post(context.Background(), "v=0"); err == nil {
		t.Error("no error")
	}
}

func TestPatch(t *testing.T) {
	const theirs = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
	for _, tt := range []struct {
		reply   reply
		trickle string // "" is success, else part of the error
		noPatch bool
		restart string
	}{
		{reply: reply{204, nil, ""}, restart: "instead of 200"},
		{reply: reply{200, map[string]string{"ETag": `"y"`}, theirs}},
		{reply: reply{200, nil, "<html>"}, restart: "malformed ICE fragment"},
		{reply: reply{200, nil, "a=end-of-candidates\r\n"}, restart: "no credentials"},
		{reply: reply{200, nil, strings.Repeat("a=x\r\n", 10_000)}, restart: "more than 32768 bytes"},
		{reply: reply{405, nil, ""}, trickle: "405", noPatch: true, restart: "405"},
		{reply: reply{412, nil, ""}, trickle: "412", noPatch: true, restart: "412"},
		{reply: reply{422, nil, ""}, trickle: "422", noPatch: true, restart: "422"},
		{reply: reply{428, nil, ""}, trickle: "428", noPatch: true, restart: "428"},
		{reply: reply{501, nil, ""}, trickle: "501", noPatch: true, restart: "501"},
		{reply: reply{404, nil, ""}, trickle: "404", restart: "404"},
		{reply: reply{401, nil, ""}, trickle: "401", restart: "401"},
		{reply: reply{500, nil, ""}, trickle: "500", restart: "500"},
	} {
		t.Run(fmt.Sprint(tt.reply.status, tt.restart), func(t *testing.T) {
			server, _ := script(t, map[string]reply{"PATCH /s": tt.reply})
			c, err := newClient(server.URL, token)
			must(t, err)
			defer c.close()
			c.session, _ = url.Parse(server.URL + "/s")
			c.etag = `"x"`
			err = c.trickle(context.Background(), whip.Fragment{End: true})
			if (err == nil) != (tt.trickle == "") || err != nil && !strings.Contains(err.Error(), tt.trickle) || errors.Is(err, errNoPatch) != tt.noPatch {
				t.Errorf("trickle: %v", err)
			}
			_, err = c.restart(context.Background(), whip.Fragment{End: true})
			if (err == nil) != (tt.restart == "") || err != nil && !strings.Contains(err.Error(), tt.restart) {
				t.Errorf("restart: %v", err)
			}
			if refused := tt.reply.status == 401; errors.Is(err, uplink.ErrRefused) && !refused && !tt.noPatch {
				t.Errorf("restart: %v: a session that is gone is no refusal", err)
			}
			if err == nil && c.etag != `"y"` {
				t.Errorf("ETag %s after a restart", c.etag)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": defaultRetryAfter, "soon": defaultRetryAfter, "-1": defaultRetryAfter, "0": 0, " 3 ": 3 * time.Second, "99999999999": defaultRetryAfter,
		"Sun, 22 Nov 2026 12:00:30 GMT": 30 * time.Second, "Sun, 22 Nov 2026 11:00:00 GMT": 0, "7200": maxRetryAfter,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestICEServers(t *testing.T) {
	links := whip.ParseLinks([]string{`<stun:stun.example.net>; rel="ice-server"`,
		`<turn:turn.example.net?transport=udp>; rel="ice-server"; username="u"; credential="c"; credential-type="password"`,
		`<turn:no.credential.example>; rel="ice-server"`, `<turn:oauth.example>; rel=ice-server; username=u; credential=c; credential-type=oauth`,
		`<https://example.net/ext>; rel="urn:ietf:params:whip:ext:x"`, `<nonsense>; rel="ice-server"`})
	got := iceServers(ICEServers{URLs: "stun:a.example turn:b.example", Username: "me", Credential: "pass"}, links)
	text := ""
	for _, s := range got {
		text += fmt.Sprint(s.URLs, s.Username, s.Credential, " ")
	}
	want := "[stun:a.example]mepass [turn:b.example]mepass [stun:stun.example.net] [turn:turn.example.net?transport=udp]uc "
	if text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestConfig(t *testing.T) {
	good := config("https://example.net/whip/x?y=z")
	must(t, good.Validate())
	_ = map[Config]bool{good: true} // it is comparable
	for key, change := range map[string]func(*Config){
		"url: is missing":       func(c *Config) { c.URL = "" },
		"url: is no URL":        func(c *Config) { c.URL = "http://[::1/secret" },
		`url: scheme "ftp"`:     func(c *Config) { c.URL = "ftp://x/" },
		"url: names no host":    func(c *Config) { c.URL = "http:///x" },
		"url: has a user name":  func(c *Config) { c.URL = "http://u:secret@x/" },
		"url: has a #fragment":  func(c *Config) { c.URL = "http://x/#y" },
		"token: has spaces":     func(c *Config) { c.Token = "secret\r\nX: y" },
		`gather: "half"`:        func(c *Config) { c.Gather = "half" },
		`ice.urls: "http://x"`:  func(c *Config) { c.ICE.URLs = "stun:a http://x" },
		`ice.username: "turn:x`: func(c *Config) { c.ICE.URLs = "turn:x" },
		"bitrate: want":         func(c *Config) { c.Bitrate.Min = 30_000_000 },
	} {
		c := good
		change(&c)
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), key) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", key, err)
		}
		if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: New takes it", key)
		}
	}
	bad := Config{}
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all errors at once: %v", err)
	}
}
