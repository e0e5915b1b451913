package whip

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	proto "gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/internal/testkit"
	"gantry/media"
)

// The server's requirements of RFC 9725, by the numbers of the project's list of them.

const (
	sdpType  = "application/sdp"
	fragType = "application/trickle-ice-sdpfrag"
)

// offered returns a real offer of one video and one audio track.
func offered(t testing.TB) string {
	t.Helper()
	p := newPeer(t)
	p.addVideo()
	p.addAudio()
	return p.offer()
}

func (b *bench) post(t testing.TB, sdp string, fields ...string) response {
	t.Helper()
	return do(t, http.MethodPost, b.web.URL+"/whip/s", sdp, append(fields, "Content-Type", sdpType)...)
}

// open opens a session and returns its URL and ETag.
func (b *bench) open(t testing.TB, sdp string, fields ...string) (string, string) {
	t.Helper()
	r := b.post(t, sdp, fields...)
	if r.StatusCode != http.StatusCreated {
		t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	return b.web.URL + r.Header.Get("Location"), r.Header.Get("ETag")
}

// wants fails the test unless r is a problem of that status whose words hold text.
func wants(t testing.TB, r response, status int, text string) {
	t.Helper()
	var problem struct {
		Title, Detail string
		Status        int
	}
	if r.StatusCode != status {
		t.Errorf("status %d, want %d: %s", r.StatusCode, status, r.body)
		return
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	if err := json.Unmarshal([]byte(r.body), &problem); err != nil || problem.Status != status || problem.Title == "" {
		t.Errorf("problem %s: %v", r.body, err)
	}
	if !strings.Contains(problem.Detail, text) {
		t.Errorf("detail %q does not say %q", problem.Detail, text)
	}
}

func ufragOf(sdp string) string {
	return regexp.MustCompile(`a=ice-ufrag:(\S+)`).FindStringSubmatch(sdp)[1]
}

func pwdOf(sdp string) string {
	return regexp.MustCompile(`a=ice-pwd:(\S+)`).FindStringSubmatch(sdp)[1]
}

const host = "a=candidate:1 1 udp 2122260223 127.0.0.1 9 typ host\r\n"

func trickle(ufrag, pwd, candidates string) string {
	return "a=ice-ufrag:" + ufrag + "\r\na=ice-pwd:" + pwd + "\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n" + candidates
}

func TestConformance01To04(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	offer := offered(t)
	t.Run("01 02 an offer is answered 201 with SDP and Location", func(t *testing.T) {
		r := b.post(t, offer)
		if r.StatusCode != http.StatusCreated || r.Header.Get("Content-Type") != sdpType || !strings.HasPrefix(r.body, "v=0\r\n") {
			t.Fatalf("%d %q %.40q", r.StatusCode, r.Header.Get("Content-Type"), r.body)
		}
		u, err := url.Parse(r.Header.Get("Location"))
		if err != nil || !strings.HasPrefix(u.Path, "/whip/s/") || u.IsAbs() {
			t.Errorf("Location %q", r.Header.Get("Location"))
		}
		if got := r.Header.Get("Accept-Patch"); got != fragType {
			t.Errorf("Accept-Patch %q", got)
		}
	})
	t.Run("03 other types and malformed SDP are refused with 4xx", func(t *testing.T) {
		wants(t, do(t, http.MethodPost, b.web.URL+"/whip/s", offer, "Content-Type", "application/json"), http.StatusUnsupportedMediaType, sdpType)
		wants(t, do(t, http.MethodPost, b.web.URL+"/whip/s", offer), http.StatusUnsupportedMediaType, sdpType)
		for name, c := range map[string]struct{ sdp, text string }{
			"empty":          {"", "v=0"},
			"not SDP":        {"hello", "v=0"},
			"cut":            {"v=0\r\no=", "malformed"},
			"no fingerprint": {strings.ReplaceAll(offer, "a=fingerprint:", "a=x:"), "fingerprint"},
			"no credentials": {strings.ReplaceAll(offer, "a=ice-pwd:", "a=x:"), "ice-pwd"},
			"no mid":         {strings.ReplaceAll(offer, "a=mid:", "a=x:"), "mid"},
			"same mid":       {strings.Replace(offer, "a=mid:1", "a=mid:0", 1), "mid"},
			"clock rate":     {strings.ReplaceAll(offer, "opus/48000", "opus/x"), "clock rate"},
			"payload type":   {strings.NewReplacer("m=audio 9 UDP/TLS/RTP/SAVPF ", "m=audio 9 UDP/TLS/RTP/SAVPF 999 ", "a=rtpmap:111", "a=rtpmap:999 opus/48000/2\r\na=rtpmap:111").Replace(offer), "payload type"},
		} {
			t.Run(name, func(t *testing.T) { wants(t, b.post(t, c.sdp), http.StatusBadRequest, c.text) })
		}
		wants(t, b.post(t, "v=0\r\n"+strings.Repeat("a=x\r\n", proto.MaxSDP/5)), http.StatusRequestEntityTooLarge, "bytes")
	})
	t.Run("04 GET is 2xx without content", func(t *testing.T) {
		session, _ := b.open(t, offer)
		for _, u := range []string{b.web.URL + "/whip/s", session} {
			if r := do(t, http.MethodGet, u, ""); r.StatusCode/100 != 2 || r.body != "" {
				t.Errorf("%s: %d %q", u, r.StatusCode, r.body)
			}
			if r := do(t, http.MethodHead, u, ""); r.StatusCode/100 != 2 {
				t.Errorf("HEAD %s: %d", u, r.StatusCode)
			}
		}
	})
	t.Run("stream names", func(t *testing.T) {
		for _, name := range []string{"", "..%2f", "a%20b", "x//y", strings.Repeat("x", 129)} {
			if r := do(t, http.MethodPost, b.web.URL+"/whip/"+name, offer, "Content-Type", sdpType); r.StatusCode != http.StatusNotFound {
				t.Errorf("%q: %d", name, r.StatusCode)
			}
		}
		if r := do(t, http.MethodPut, b.web.URL+"/whip/s", offer); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
			t.Errorf("PUT: %d", r.StatusCode)
		}
		wants(t, do(t, http.MethodPost, b.web.URL+"/whip/s?priority=high", offer, "Content-Type", sdpType), http.StatusBadRequest, "priority")
	})
}

// Rows about what may be offered, and what the answer is.
func TestConformance05To22(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	offer := offered(t)
	answered := func(t *testing.T, sdp string) string {
		t.Helper()
		r := b.post(t, sdp)
		if r.StatusCode != http.StatusCreated {
			t.Fatalf("status %d: %s", r.StatusCode, r.body)
		}
		return r.body
	}
	t.Run("05 sendonly and sendrecv are answered recvonly", func(t *testing.T) {
		for _, direction := range []string{"a=sendonly", "a=sendrecv", "a=x"} {
			answer := answered(t, strings.ReplaceAll(offer, "a=sendonly", direction))
			if n := strings.Count(answer, "a=recvonly"); n != 2 {
				t.Errorf("%s: %d sections are recvonly", direction, n)
			}
		}
	})
	for _, direction := range []string{"inactive", "recvonly"} {
		t.Run("05 "+direction+" is refused", func(t *testing.T) {
			wants(t, b.post(t, strings.Replace(offer, "a=sendonly", "a="+direction, 1)), http.StatusUnprocessableEntity, direction)
		})
	}
	t.Run("13 the answer has all candidates", func(t *testing.T) {
		answer := answered(t, offer)
		if !strings.Contains(answer, "a=candidate:") || !strings.Contains(answer, "a=end-of-candidates") || !strings.Contains(answer, " tcp ") {
			t.Errorf("answer:\n%s", answer)
		}
	})
	t.Run("18 bundle, rtcp-mux and rtcp-mux-only", func(t *testing.T) {
		answer := answered(t, offer)
		if !strings.Contains(answer, "a=group:BUNDLE 0 1") || strings.Count(answer, "a=rtcp-mux-only\r\n") != 2 || strings.Count(answer, "a=rtcp-mux\r\n") != 2 {
			t.Errorf("answer:\n%s", answer)
		}
		wants(t, b.post(t, strings.Replace(offer, "a=group:BUNDLE 0 1", "a=x", 1)), http.StatusUnprocessableEntity, "max-bundle")
		wants(t, b.post(t, strings.Replace(offer, "a=rtcp-mux\r\n", "", 1)), http.StatusUnprocessableEntity, "rtcp-mux")
	})
	t.Run("19 20 what cannot be taken refuses the whole offer", func(t *testing.T) {
		video := offer[strings.Index(offer, "m=video"):strings.Index(offer, "m=audio")]
		second := strings.Replace(offer, "BUNDLE 0 1", "BUNDLE 0 1 2", 1) + strings.Replace(video, "a=mid:0", "a=mid:2", 1)
		wants(t, b.post(t, second), http.StatusUnprocessableEntity, "several video tracks")
		data := strings.Replace(offer, "BUNDLE 0 1", "BUNDLE 0 1 2", 1) +
			"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n"
		wants(t, b.post(t, data), http.StatusUnprocessableEntity, "data channel")
		wants(t, b.post(t, strings.ReplaceAll(offer, "opus/48000/2", "PCMU/8000")), http.StatusUnprocessableEntity, "encode it as opus")
		wants(t, b.post(t, strings.Replace(offer, "m=video 9", "m=video 0", 1)), http.StatusUnprocessableEntity, "port 0")
		wants(t, b.post(t, offer[:strings.Index(offer, "m=")]), http.StatusUnprocessableEntity, "no media")
	})
	t.Run("21 setup", func(t *testing.T) {
		for _, setup := range []string{"actpass", "active"} {
			if answer := answered(t, strings.ReplaceAll(offer, "a=setup:actpass", "a=setup:"+setup)); strings.Count(answer, "a=setup:passive") != 2 {
				t.Errorf("%s: answer:\n%s", setup, answer)
			}
		}
	})
	t.Run("22 full ICE", func(t *testing.T) {
		if strings.Contains(answered(t, offer), "a=ice-lite") {
			t.Error("lite")
		}
	})
	t.Run("opus is heard in stereo", func(t *testing.T) {
		if !regexp.MustCompile(`a=fmtp:111 .*;stereo=1\r`).MatchString(answered(t, offer)) {
			t.Error("no stereo=1")
		}
		answered(t, strings.ReplaceAll(offer, "opus/48000/2", "opus/48000/1"))
	})
	t.Run("candidates of the offer that lead nowhere do no harm", func(t *testing.T) {
		answered(t, offer+"a=candidate:1 1 udp 1 nowhere.local 9 typ host\r\na=candidate:x\r\na=candidate:1 1 sctp 1 192.0.2.1 9 typ host\r\n")
	})
}

func TestConformance06(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	p := newPeer(t)
	p.addVideo()
	p.publish(b, "/whip/s", nil)
	gone := make(chan struct{}, 1)
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateClosed || s == webrtc.PeerConnectionStateFailed || s == webrtc.PeerConnectionStateDisconnected {
			select {
			case gone <- struct{}{}:
			default:
			}
		}
	})
	p.playing(record(t, "320x180", plain))
	testkit.Eventually(t, 10*time.Second, "live", func() bool { _, err := b.hub.Live("s"); return err == nil })
	// 12: the ETag does not matter here.
	if r := do(t, http.MethodDelete, b.web.URL+p.location, "", "If-Match", `"other"`); r.StatusCode != http.StatusOK {
		t.Fatalf("DELETE: %d", r.StatusCode)
	}
	if _, err := b.hub.Live("s"); err == nil {
		t.Error("still live after DELETE was answered")
	}
	select {
	case <-gone: // by the DTLS alert of RFC 7675 §5.2's revocation
	case <-time.After(5 * time.Second):
		t.Error("the publisher was not told")
	}
	for _, method := range []string{http.MethodDelete, http.MethodPatch} {
		wants(t, do(t, method, b.web.URL+p.location, ""), http.StatusNotFound, "no such session")
	}
}

func TestConformance07(t *testing.T) {
	t.Parallel()
	b := startWith(t, Access{}, Default(), func(c *rtc.Config) { c.Silence = 1500 * time.Millisecond })
	p := newPeer(t)
	p.addVideo()
	l := newLink(t, b.port.UDPMux().GetListenAddresses()[0], 0, 0)
	p.publish(b, "/whip/s", l.lead)
	p.playing(record(t, "320x180", plain))
	testkit.Eventually(t, 10*time.Second, "live", func() bool { _, err := b.hub.Live("s"); return err == nil })
	l.cut()
	testkit.Eventually(t, 10*time.Second, "the session ended with its consent", func() bool { return b.server.Counters().Sessions.Load() == 0 })
	wants(t, do(t, http.MethodDelete, b.web.URL+p.location, ""), http.StatusNotFound, "no such session")
}

func TestConformance08And25And30(t *testing.T) {
	t.Parallel()
	turn := proto.Link{URL: "turn:turn.example.net?transport=udp", Rel: proto.RelICEServer,
		Params: map[string]string{"username": "u", "credential": "c", "credential-type": "password"}}
	b := start(t, Access{
		Authorize: func(token, _ string) error {
			if token != "right" {
				return errors.New("wrong token")
			}
			return nil
		},
		ICEServers: func(token, stream string) []proto.Link { return []proto.Link{turn} },
	})
	endpoint := b.web.URL + "/whip/s"
	t.Run("08 25 a preflight is allowed and told of no ICE servers", func(t *testing.T) {
		for _, bearer := range []string{"", "Bearer right"} {
			r := do(t, http.MethodOptions, endpoint, "", "Origin", "https://example.org", "Access-Control-Request-Method", "POST",
				"Access-Control-Request-Headers", "authorization,content-type", "Authorization", bearer)
			if r.StatusCode != http.StatusOK || r.Header.Get("Accept-Post") != sdpType || r.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%d %v", r.StatusCode, r.Header)
			}
			for _, needed := range []string{"POST", "PATCH", "DELETE"} {
				if !strings.Contains(r.Header.Get("Access-Control-Allow-Methods"), needed) {
					t.Errorf("%s is not allowed", needed)
				}
			}
			for _, needed := range []string{"Authorization", "Content-Type", "If-Match"} {
				if !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), needed) {
					t.Errorf("%s is not allowed", needed)
				}
			}
			if r.Header.Get("Link") != "" {
				t.Error("ICE servers in a preflight")
			}
		}
	})
	t.Run("25 OPTIONS with a token shows ICE servers", func(t *testing.T) {
		if r := do(t, http.MethodOptions, endpoint, "", "Authorization", "Bearer right"); r.Header.Get("Link") != turn.String() {
			t.Errorf("Link %q", r.Header.Get("Link"))
		}
		if r := do(t, http.MethodOptions, endpoint, "", "Authorization", "Bearer wrong"); r.Header.Get("Link") != "" || r.StatusCode != http.StatusOK {
			t.Errorf("%d, Link %q", r.StatusCode, r.Header.Get("Link"))
		}
	})
	t.Run("25 30 the 201 has Link and lets browsers read it", func(t *testing.T) {
		r := b.post(t, offered(t), "Authorization", "Bearer right", "Origin", "https://example.org")
		if links := proto.ParseLinks(r.Header.Values("Link")); len(links) != 1 || !links[0].Is(proto.RelICEServer) || links[0].Params["credential"] != "c" {
			t.Errorf("links %v", links)
		}
		for _, needed := range []string{"Location", "ETag", "Link", "Accept-Patch", "Retry-After"} {
			if !strings.Contains(r.Header.Get("Access-Control-Expose-Headers"), needed) {
				t.Errorf("%s is not exposed", needed)
			}
		}
	})
	t.Run("26 tokens", func(t *testing.T) {
		offer := offered(t)
		for _, c := range []struct{ field, query, challenge string }{
			{"", "", `Bearer realm="gantry"`}, {"Bearer wrong", "", "invalid_token"}, {"Basic cmlnaHQ=", "", "Bearer"}, {"", "?token=wrong", "invalid_token"},
		} {
			r := do(t, http.MethodPost, endpoint+c.query, offer, "Content-Type", sdpType, "Authorization", c.field)
			wants(t, r, http.StatusUnauthorized, "wrong token")
			if !strings.Contains(r.Header.Get("WWW-Authenticate"), c.challenge) {
				t.Errorf("challenge %q", r.Header.Get("WWW-Authenticate"))
			}
		}
		for _, c := range []struct{ field, query string }{{"bearer right", ""}, {"", "?token=right"}, {"", "?auth=right"}} {
			r := do(t, http.MethodPost, endpoint+c.query, offer, "Content-Type", sdpType, "Authorization", c.field)
			if r.StatusCode != http.StatusCreated {
				t.Fatalf("%+v: %d %s", c, r.StatusCode, r.body)
			}
			session := b.web.URL + r.Header.Get("Location")
			wants(t, do(t, http.MethodDelete, session, "", "Authorization", "Bearer other"), http.StatusUnauthorized, "another token")
			if c.field != "" {
				wants(t, do(t, http.MethodDelete, session, ""), http.StatusUnauthorized, "another token")
			}
			if r := do(t, http.MethodDelete, session, "", "Authorization", c.field); r.StatusCode != http.StatusOK {
				t.Errorf("DELETE: %d", r.StatusCode)
			}
		}
	})
}

func TestConformance09To15(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	offer := offered(t)
	session, etag := b.open(t, offer)
	ufrag, pwd := ufragOf(offer), pwdOf(offer)
	patch := func(body string, fields ...string) response {
		return do(t, http.MethodPatch, session, body, append(fields, "Content-Type", fragType)...)
	}
	t.Run("09 other types and malformed fragments are refused", func(t *testing.T) {
		wants(t, do(t, http.MethodPatch, session, trickle(ufrag, pwd, host), "Content-Type", "text/plain", "If-Match", etag), http.StatusUnsupportedMediaType, fragType)
		wants(t, patch("{}", "If-Match", etag), http.StatusBadRequest, "malformed")
		wants(t, patch("", "If-Match", etag), http.StatusBadRequest, "empty")
		wants(t, patch(strings.Repeat("a=x\r\n", proto.MaxFragment/5+1), "If-Match", etag), http.StatusRequestEntityTooLarge, "bytes")
		wants(t, do(t, http.MethodPatch, session, offer, "Content-Type", sdpType), http.StatusConflict, fragType)
	})
	t.Run("11 the ETag is strong and each session's own", func(t *testing.T) {
		_, other := b.open(t, offer)
		if !regexp.MustCompile(`^"[^"]{16,}"$`).MatchString(etag) || etag == other {
			t.Errorf("ETags %s, %s", etag, other)
		}
	})
	t.Run("12 conditions", func(t *testing.T) {
		wants(t, patch(trickle("otherufrag", pwd, host)), http.StatusPreconditionRequired, "If-Match")
		wants(t, patch("m=audio 9 RTP/AVP 0\r\na=mid:0\r\n"+host), http.StatusPreconditionRequired, "If-Match")
		wants(t, patch(trickle(ufrag, pwd, host), "If-Match", `"other"`), http.StatusPreconditionFailed, "ETag")
		wants(t, patch(trickle(ufrag, pwd, host), "If-Match", "W/"+etag), http.StatusPreconditionFailed, "ETag")
		if r := patch(trickle(ufrag, pwd, host)); r.StatusCode != http.StatusNoContent { // tolerated: it can mean nothing else
			t.Errorf("trickle without If-Match and with the current ufrag: %d", r.StatusCode)
		}
	})
	t.Run("15 candidates are taken, unusable ones in silence", func(t *testing.T) {
		for _, candidates := range []string{
			host, host + "a=end-of-candidates\r\n", "a=end-of-candidates\r\n",
			"a=candidate:1 1 udp 2122260223 3f8a.local 9 typ host\r\n",
			"a=candidate:1 1 sctp 1 127.0.0.1 9 typ host\r\n",
			"a=candidate:nonsense\r\n",
		} {
			r := patch(trickle(ufrag, pwd, candidates), "If-Match", `"x", `+etag)
			if r.StatusCode != http.StatusNoContent || r.body != "" || r.Header.Get("ETag") != "" {
				t.Errorf("%q: %d, body %q, ETag %q", candidates, r.StatusCode, r.body, r.Header.Get("ETag"))
			}
		}
	})
}

// 10, 16, 17: an ICE restart moves a live session to new credentials; a failed one leaves it alone.
func TestConformance16And17(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	p := newPeer(t)
	p.addVideo()
	p.publish(b, "/whip/s", nil)
	p.playing(record(t, "320x180", plain))
	b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 10 })
	patch := func(body, match string) response {
		return do(t, http.MethodPatch, b.web.URL+p.location, body, "Content-Type", fragType, "If-Match", match)
	}

	wants(t, patch("a=ice-ufrag:new1\r\na=ice-pwd:short\r\n", "*"), http.StatusBadRequest, "credential")
	b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 10 })

	offer, err := p.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		t.Fatal(err)
	}
	gathered := make(chan struct{})
	var once sync.Once // pion tells the end of the first gathering again, at times
	p.pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			once.Do(func() { close(gathered) })
		}
	})
	if err := p.pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	mine, err := proto.ParseFragment([]byte(p.pc.LocalDescription().SDP))
	if err != nil {
		t.Fatal(err)
	}
	r := patch(string(mine.Marshal()), `"*"`)
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != fragType {
		t.Fatalf("restart: %d %s", r.StatusCode, r.body)
	}
	etag := r.Header.Get("ETag")
	if etag == "" || etag == p.etag {
		t.Errorf("ETag %q after %q", etag, p.etag)
	}
	theirs, err := proto.ParseFragment([]byte(r.body))
	if err != nil || theirs.Ufrag == ufragOf(p.answer) || len(theirs.Candidates) == 0 {
		t.Fatalf("fragment %+v: %v", theirs, err)
	}
	if again := patch(string(mine.Marshal()), "*"); again.StatusCode != http.StatusOK || again.body != r.body || again.Header.Get("ETag") != etag {
		t.Errorf("a repeated restart is answered %d, ETag %s, want the same again", again.StatusCode, again.Header.Get("ETag"))
	}
	wants(t, patch(trickle(mine.Ufrag, mine.Pwd, host), p.etag), http.StatusPreconditionFailed, "ETag")
	if r := patch(trickle(mine.Ufrag, mine.Pwd, "a=end-of-candidates\r\n"), etag); r.StatusCode != http.StatusNoContent {
		t.Errorf("trickle with the new ETag: %d", r.StatusCode)
	}

	anew := regexp.MustCompile(`a=candidate:.*\r\n`).ReplaceAllString(p.answer, "")
	anew = strings.NewReplacer(ufragOf(p.answer), theirs.Ufrag, pwdOf(p.answer), theirs.Pwd).Replace(anew)
	var lines strings.Builder
	for _, c := range theirs.Candidates {
		lines.WriteString("a=" + c.Value + "\r\n")
	}
	answer := strings.Replace(anew, "a=recvonly\r\n", "a=recvonly\r\n"+lines.String(), 1)
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	count := b.server.Counters().Packets.Load()
	testkit.Eventually(t, 10*time.Second, "packets come over the new path", func() bool { return b.server.Counters().Packets.Load() > count+50 })
	b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 10 })
	if n := b.server.Counters().Sessions.Load(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestConformance23And24(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Limits.Sessions = 1
	b := startWith(t, Access{}, cfg, nil)
	offer := offered(t)
	session, _ := b.open(t, offer)
	r := b.post(t, offer)
	wants(t, r, http.StatusServiceUnavailable, "sessions")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if r := do(t, http.MethodDelete, session, ""); r.StatusCode != http.StatusOK {
		t.Fatalf("DELETE: %d", r.StatusCode)
	}
	b.open(t, offer)
}

// 27: the layers of a simulcast offer are answered (RFC 8853 §5.3.2) and become tracks by their RIDs.
func TestConformance27(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	p := newPeer(t)
	capability := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	layers := map[string]*webrtc.TrackLocalStaticRTP{}
	for _, rid := range []string{"hi", "lo"} {
		track, err := webrtc.NewTrackLocalStaticRTP(capability, "video", "gantry", webrtc.WithRTPStreamID(rid))
		if err != nil {
			t.Fatal(err)
		}
		layers[rid] = track
		if rid == "hi" {
			p.sender = p.add(track)
		} else if err := p.sender.AddEncoding(track); err != nil {
			t.Fatal(err)
		}
	}
	p.publish(b, "/whip/s", nil)
	for _, needed := range []string{"a=rid:hi recv", "a=rid:lo recv", "a=simulcast:recv hi;lo"} {
		if !strings.Contains(p.answer, needed) {
			t.Errorf("the answer lacks %q:\n%s", needed, p.answer)
		}
	}
	var mid, rid uint8
	for _, x := range p.sender.GetParameters().HeaderExtensions {
		switch {
		case strings.HasSuffix(x.URI, "sdes:mid"):
			mid = uint8(x.ID)
		case strings.HasSuffix(x.URI, "sdes:rtp-stream-id"):
			rid = uint8(x.ID)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := uint16(0); i < 200; i++ {
			for name, track := range layers {
				packet := vp8(i, map[uint8]string{mid: "0", rid: name})
				if err := track.WriteRTP(packet); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Error(err)
					return
				}
			}
			<-time.After(10 * time.Millisecond)
		}
	}()
	defer func() { <-done }()
	v := b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 12 && len(v.units[1]) > 12 })
	if v.tracks[0].RID != "hi" || v.tracks[1].RID != "lo" {
		t.Errorf("tracks %+v", v.tracks)
	}
	for i, track := range b.hub.Streams()[0].Publishers[0].Tracks {
		if !slices.ContainsFunc(v.units[i], func(u unitSeen) bool { return u.key }) || track.Width != 320 || track.Height != 180 {
			t.Errorf("track %d has no key frame, or not its size: %+v", i, track)
		}
	}
}

// 29: session URLs cannot be guessed. Rate limits are tested in internal/proto/whip.
func TestConformance29(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	offer := offered(t)
	seen := map[string]bool{}
	for range 8 {
		u, _ := b.open(t, offer)
		id := u[strings.LastIndexByte(u, '/')+1:]
		if !regexp.MustCompile(`^[A-Z2-7]{26}$`).MatchString(id) || seen[id] { // 26 base32 characters are 130 bits
			t.Errorf("session %q", id)
		}
		seen[id] = true
	}
}

// 27: what OBS 32.2.2 (libdatachannel 0.24.5) offered for three layers: RIDs counted from 0, the largest layer; no video SSRC, header
// extensions 1 and 2, no retransmission format.
func TestOBSSimulcast(t *testing.T) {
	offer, err := os.ReadFile("testdata/obs-simulcast.sdp")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseOffer(string(offer))
	if err != nil {
		t.Fatal(err)
	}
	s := &session{}
	s.prepare(parsed.sections)
	var rids []string
	for _, track := range s.tracks[1:] {
		rids = append(rids, track.rid)
		if track.info.Codec != media.H264 || !track.sure || !track.choice.pli || !track.choice.nack || track.choice.rtx != nil {
			t.Errorf("layer %s: %+v", track.rid, track.choice)
		}
	}
	if !slices.Equal(rids, []string{"0", "1", "2"}) {
		t.Errorf("layers %v", rids)
	}
	b := start(t, Access{})
	r := b.post(t, string(offer))
	for _, needed := range []string{"a=rid:0 recv", "a=rid:1 recv", "a=rid:2 recv", "a=simulcast:recv 0;1;2", "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid",
		"a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "a=rtcp-fb:96 nack pli"} {
		if r.StatusCode != http.StatusCreated || !strings.Contains(r.body, needed) {
			t.Errorf("%d: the answer lacks %q:\n%s", r.StatusCode, needed, r.body)
		}
	}
}
