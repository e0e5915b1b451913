package whep_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
)

func vp8Only(m *webrtc.MediaEngine) error {
	return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}}, webrtc.RTPCodecTypeVideo)
}

// WHEP delta 1: 201, a sendonly answer, Location. Rows 2, 11, 13, 18, 19 and 30 of WHIP hold for it too.
func TestAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	c := newClient(t, clientOptions{})
	status, header, answer := b.do(t, http.MethodPost, b.url+"/whep/demo", "application/sdp", c.offer(nil), nil)
	if status != http.StatusCreated || header.Get("Content-Type") != "application/sdp" {
		t.Fatalf("%d %q", status, header.Get("Content-Type"))
	}
	if !strings.HasPrefix(header.Get("Location"), "/whep/demo/") || len(header.Get("ETag")) < 18 {
		t.Errorf("Location %q, ETag %q", header.Get("Location"), header.Get("ETag"))
	}
	if !strings.Contains(header.Get("Access-Control-Expose-Headers"), "Location") {
		t.Error("Location is not exposed to browsers")
	}
	if n := strings.Count(answer, "a=sendonly"); n != 2 {
		t.Errorf("%d sendonly sections, want 2", n)
	}
	for _, never := range []string{"a=recvonly", "a=sendrecv", "a=setup:actpass"} {
		if strings.Contains(answer, never) {
			t.Errorf("the answer has %s", never)
		}
	}
	for what, pattern := range map[string]string{
		"all candidates":     `a=candidate:\S+ 1 udp `,
		"a TCP candidate":    `a=candidate:\S+ 1 tcp .* tcptype passive`,
		"their end":          `a=end-of-candidates`,
		"one bundle":         `a=group:BUNDLE 0 1`,
		"rtcp-mux":           `a=rtcp-mux\r`,
		"the DTLS role":      `a=setup:passive`,
		"the true profile":   `profile-level-id=42c00d`,
		"one stream's msids": `a=msid:gantry video[\s\S]*a=msid:gantry audio`,
		"RTX":                `a=ssrc-group:FID`,
		"a fingerprint":      `a=fingerprint:sha-256 ([0-9A-F]{2}:){31}`,
	} {
		if !regexp.MustCompile(pattern).MatchString(answer) {
			t.Errorf("no %s in the answer:\n%s", what, answer)
		}
	}
}

// A client that takes only pictures gets only pictures.
func TestVideoOnlyOffer(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{videoOnly: true})
	c.pictures(10, p)
}

// What the stream lacks is inactive in the answer, not rejected: the session works.
func TestStreamWithoutSound(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	pub, err := b.hub.Publish("silent", relay.Publisher{Tracks: []media.Track{videoTrack}})
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	pub.Write(&media.Packet{Start: true, End: true, Key: true, Data: []byte{0x65, 0x88}})
	c := newClient(t, clientOptions{})
	status, _, answer := b.do(t, http.MethodPost, b.url+"/whep/silent", "application/sdp", c.offer(nil), nil)
	if status != http.StatusCreated || strings.Count(answer, "a=sendonly") != 1 || strings.Count(answer, "a=inactive") != 1 {
		t.Fatalf("%d\n%s", status, answer)
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5e9, "the picture arrives", func() bool { return len(c.packets()) > 0 })
}

// WHEP delta 2: an offer that does not fit is answered 406 with the server's own, which the client answers by PATCH.
func TestCounterOffer(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	// A client that could take H.264 but offers VP8 alone.
	vp8 := newClient(t, clientOptions{codecs: vp8Only, videoOnly: true})
	status, header, offer := b.do(t, http.MethodPost, b.url+"/whep/demo", "application/sdp", vp8.offer(nil), nil)
	if status != http.StatusNotAcceptable || !strings.HasPrefix(header.Get("Content-Type"), "application/sdp") || header.Get("Location") == "" {
		t.Fatalf("%d %v %s", status, header, offer)
	}
	if !strings.Contains(offer, "a=setup:actpass") || !strings.Contains(offer, "a=rtcp-mux-only") {
		t.Errorf("not an offer of RFC 9725's kind:\n%s", offer)
	}
	location := b.url + header.Get("Location")
	c := newClient(t, clientOptions{})
	for _, transceiver := range c.pc.GetTransceivers() {
		_ = transceiver.Stop()
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		t.Fatal(err)
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(answer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	if status, _, body := b.do(t, http.MethodPatch, location, "application/sdp", "v=0\r\nx", nil); status < 400 || status > 499 {
		t.Errorf("a malformed answer: %d %s", status, body)
	}
	if status, _, body := b.do(t, http.MethodPatch, location, "application/sdp", c.pc.LocalDescription().SDP, nil); status != http.StatusNoContent {
		t.Fatalf("PATCH: %d %s", status, body)
	}
	c.pictures(10, p)
}

// WHEP delta 3: nobody publishes.
func TestNotLive(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	c := newClient(t, clientOptions{})
	status, header, body := b.do(t, http.MethodPost, b.url+"/whep/nothing", "application/sdp", c.offer(nil), nil)
	if status != http.StatusConflict || header.Get("Retry-After") != "2" {
		t.Errorf("%d, Retry-After %q: %s", status, header.Get("Retry-After"), body)
	}
	// A viewer that comes while the publisher is away for a moment is told the same.
	p := publish(t, b.hub, "demo", nil)
	b.play(t, "demo", clientOptions{}).pictures(5, p)
	p.close()
	if status, _, _ := b.do(t, http.MethodPost, b.url+"/whep/demo", "application/sdp", newClient(t, clientOptions{}).offer(nil), nil); status != http.StatusConflict {
		t.Errorf("%d while the publisher is away", status)
	}
}

// WHEP delta 4, and rows 4 and 8 of WHIP.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	if status, header, _ := b.do(t, http.MethodHead, b.url+"/whep/demo", "", "", nil); status != http.StatusOK || header.Get("Content-Type") != "application/sdp" {
		t.Errorf("HEAD: %d %q", status, header.Get("Content-Type"))
	}
	if status, _, body := b.do(t, http.MethodGet, b.url+"/whep/demo", "", "", nil); status/100 != 2 || body != "" {
		t.Errorf("GET: %d %q", status, body)
	}
	if status, header, _ := b.do(t, http.MethodOptions, b.url+"/whep/demo", "", "", nil); status != http.StatusOK || header.Get("Accept-Post") != "application/sdp" {
		t.Errorf("OPTIONS: %d %q", status, header.Get("Accept-Post"))
	}
}

// WHEP delta 5 with rows 9, 12, 15 and 17: candidates and ICE restarts, and their conditions.
func TestTrickle(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{offer: withoutCandidates})
	const sdpfrag = "application/trickle-ice-sdpfrag"
	own := fragment(c.pc.LocalDescription().SDP)
	patch := func(body, contentType, ifMatch string) (int, http.Header) {
		h := http.Header{}
		if ifMatch != "" {
			h.Set("If-Match", ifMatch)
		}
		status, header, _ := b.do(t, http.MethodPatch, c.location, contentType, body, h)
		return status, header
	}
	if status, header := patch(own, sdpfrag, c.etag); status != http.StatusNoContent || header.Get("ETag") != "" {
		t.Errorf("candidates: %d, ETag %q", status, header.Get("ETag"))
	}
	if status, _ := patch(strings.ReplaceAll(own, " udp ", " sctp "), sdpfrag, c.etag); status != http.StatusNoContent {
		t.Errorf("a candidate that cannot be used: %d", status)
	}
	c.pictures(10, p)
	for what, want := range map[string]struct {
		status                     int
		body, contentType, ifMatch string
	}{
		"an old ETag":      {http.StatusPreconditionFailed, own, sdpfrag, `"old"`},
		"another type":     {http.StatusUnsupportedMediaType, own, "text/plain", c.etag},
		"no fragment":      {http.StatusBadRequest, "hello", sdpfrag, c.etag},
		"restart, no pwd":  {http.StatusBadRequest, "a=ice-ufrag:abcdefgh\r\n", sdpfrag, "*"},
		"restart, no cond": {http.StatusPreconditionRequired, "a=ice-ufrag:abcdefgh\r\na=ice-pwd:0123456789012345678901\r\n", sdpfrag, ""},
	} {
		if status, _ := patch(want.body, want.contentType, want.ifMatch); status != want.status {
			t.Errorf("%s: %d, want %d", what, status, want.status)
		}
	}
	n := len(c.packets()) / 4
	c.pictures(n+20, p) // all that did no harm
}

func withoutCandidates(offer string) string {
	return regexp.MustCompile(`a=(candidate|end-of-candidates).*\r\n`).ReplaceAllString(offer, "")
}

// Rows 3, 5, 18, 20 and 21: offers that no answer can be given to, each with a status of its class and a reason.
func TestOffersRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	good := newClient(t, clientOptions{}).offer(nil)
	replace := func(pattern, with string) string {
		out := regexp.MustCompile(pattern).ReplaceAllString(good, with)
		if out == good {
			t.Fatalf("%s is not in the offer", pattern)
		}
		return out
	}
	for what, o := range map[string]struct {
		status      int
		offer, kind string
	}{
		"no SDP":             {400, "hello", ""},
		"cut off":            {400, "v=0\r\no=- 1 1", ""},
		"no media":           {400, "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", ""},
		"another type":       {415, good, "text/plain"},
		"no ufrag":           {400, replace(`a=ice-ufrag.*\r\n`, ""), ""},
		"short pwd":          {400, replace(`a=ice-pwd.*\r\n`, "a=ice-pwd:short\r\n"), ""},
		"no fingerprint":     {400, replace(`a=fingerprint.*\r\n`, ""), ""},
		"SHA-1 only":         {422, replace(`a=fingerprint.*\r\n`, "a=fingerprint:sha-1 00:11\r\n"), ""},
		"no rtcp-mux":        {422, replace(`a=rtcp-mux\r\n`, ""), ""},
		"no bundle":          {422, replace(`a=group:BUNDLE.*\r\n`, ""), ""},
		"passive":            {422, replace(`a=setup:actpass`, "a=setup:passive"), ""},
		"no setup":           {400, replace(`a=setup:actpass\r\n`, ""), ""},
		"sendonly":           {406, replace(`a=recvonly`, "a=sendonly"), ""},
		"too large":          {413, good + strings.Repeat("a=x\r\n", 40000), ""},
		"profile impossible": {406, replace(`profile-level-id=[0-9a-f]{6}`, "profile-level-id=f4001f"), ""},
	} {
		kind := o.kind
		if kind == "" {
			kind = "application/sdp"
		}
		status, _, body := b.do(t, http.MethodPost, b.url+"/whep/demo", kind, o.offer, nil)
		if status != o.status || body == "" {
			t.Errorf("%s: %d %s, want %d", what, status, body, o.status)
		}
	}
	if status, _, _ := b.do(t, http.MethodPost, b.url+"/whep/..%2fx", "application/sdp", good, nil); status != http.StatusNotFound {
		t.Errorf("a bad name: %d", status)
	}
}

// Row 6: DELETE ends the session, whatever its ETag; twice is once.
func TestDelete(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	c.pictures(5, p)
	if status, _, body := b.do(t, http.MethodDelete, c.location, "", "", http.Header{"If-Match": {`"other"`}}); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, _ := b.do(t, http.MethodDelete, c.location, "", "", nil); status != http.StatusNotFound {
		t.Errorf("again: %d", status)
	}
	testkit.Eventually(t, 5e9, "the viewer is gone", func() bool { return b.server.Stats().Viewers == 0 })
}
