package whep_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/slate"
)

// light is the share of the picture's pixels that are light, the mean of all, and the picture's width.
const light = `(() => { const c = document.createElement("canvas"); c.width = v.videoWidth; c.height = v.videoHeight; const g = c.getContext("2d");
	g.drawImage(v, 0, 0); const d = g.getImageData(0, 0, c.width, c.height).data; let n = 0, sum = 0;
	for (let i = 0; i < d.length; i += 4) { sum += d[i]; if (d[i] > 150) n++; }
	return {share: 4 * n / d.length, mean: 4 * sum / d.length, width: c.width}; })()`

// A real browser shows the slate while the publisher is gone, though it has another size, and the picture again afterwards: in
// the same session, without a packet that is missing or a key frame that it had to ask for.
func TestChromiumShowsTheSlate(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.hub.SetSlate(func(track media.Track) [][]byte {
		track.Width, track.Height = 640, 360
		return slate.New("back soon")(track)
	})
	first := publish(t, b.hub, "demo", nil)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(playerPage))
	}))
	defer page.Close()
	tab := chromium.Open(t, chromium.Options{}, page.URL)
	chromium.Eval[any](tab, `play("`+b.url+`/whep/demo")`)
	tab.Wait(15*time.Second, "v.videoWidth == 320 && shown.length > 10", "shown.length")
	type picture struct{ Share, Mean, Width float64 }
	bright := chromium.Eval[picture](tab, light)
	first.close()
	tab.Wait(15*time.Second, "v.videoWidth == 640", "v.videoWidth")
	count := chromium.Eval[int](tab, "shown.length")
	tab.Wait(10*time.Second, "shown.length > "+strconv.Itoa(count+1), "shown.length")
	if p := chromium.Eval[picture](tab, light); p.Mean > 60 || p.Share == 0 || p.Share > 0.1 {
		t.Errorf("the slate is %+v; the picture was %+v", p, bright)
	} else {
		t.Logf("the slate is %+v; the picture was %+v", p, bright)
	}
	publish(t, b.hub, "demo", nil)
	begun := time.Now()
	tab.Wait(10*time.Second, "v.videoWidth == 320", "v.videoWidth")
	t.Logf("the picture again after %v", time.Since(begun).Round(10*time.Millisecond))
	if p := chromium.Eval[picture](tab, light); p.Mean < 60 {
		t.Errorf("the picture is %+v, was %+v", p, bright)
	}
	if s := chromium.Eval[string](tab, "pc.connectionState"); s != "connected" {
		t.Errorf("the connection is %s", s)
	}
	type stats struct{ Lost, PLI int }
	if s := chromium.Eval[stats](tab, `pc.getStats().then(r => { for (const s of r.values()) if (s.type == "inbound-rtp" && s.kind == "video") return {lost: s.packetsLost, pli: s.pliCount}; })`); s.Lost != 0 {
		t.Errorf("%+v", s)
	} else {
		t.Logf("%+v", s)
	}
}

// Who joins while the slate is shown sees it, be it the first viewer or not, and then the publisher that returns.
func TestJoinsTheSlate(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.hub.SetSlate(slate.New("back soon"))
	early := map[string]*client{}
	for _, stream := range []string{"watched", "unwatched"} {
		p := publish(t, b.hub, stream, nil)
		testkit.Eventually(t, 10*time.Second, "it is live", func() bool { _, err := b.hub.Live(stream); return err == nil })
		if stream == "watched" {
			early[stream] = b.play(t, stream, clientOptions{})
			testkit.Eventually(t, 10*time.Second, "it plays", func() bool { return len(early[stream].packets()) > 20 })
		}
		p.close()
	}
	for _, stream := range []string{"watched", "unwatched"} {
		testkit.Eventually(t, 10*time.Second, "the slate is shown", func() bool {
			sub, err := b.hub.Subscribe(stream, relay.Want{})
			if err == nil {
				_ = sub.Close()
			}
			return err == nil
		})
		late := b.play(t, stream, clientOptions{})
		testkit.Eventually(t, 10*time.Second, "the slate comes", func() bool {
			p := late.packets()
			return len(p) > 0 && p[len(p)-1].Marker
		})
		if p := late.packets(); !startsKey(p[0].Payload) {
			t.Errorf("%s: begins with % x", stream, p[0].Payload[:2])
		}
		n := len(late.packets())
		publish(t, b.hub, stream, nil)
		testkit.Eventually(t, 10*time.Second, "the publisher is back", func() bool { return len(late.packets()) > n+30 })
		late.unbroken()
	}
	if status, _, _ := b.do(t, "POST", b.url+"/whep/unknown", "application/sdp", early["watched"].pc.LocalDescription().SDP, nil); status != http.StatusConflict {
		t.Errorf("a stream that there never was: %d", status)
	}
}

// A codec that has no slate keeps its last picture, in the browser too, beside viewers of H.264 who see the slate; who joins then is
// told to wait. The picture goes on in the same session.
func TestChromiumKeepsTheLastPicture(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.hub.SetSlate(slate.New("back soon"))
	both := []media.Track{rendered[3], rendered[1]}
	tab := codecTab(t)
	stop := render(t, b.hub, "demo", both)
	testkit.Eventually(t, 10*time.Second, "it is live", func() bool { _, err := b.hub.Live("demo"); return err == nil })
	chromium.Eval[float64](tab, fmt.Sprintf("play(%q)", b.url+"/whep/demo"))
	tab.Wait(10*time.Second, `inbound().then(s => s.codec == "AV1" && s.shown > 20)`, "inbound()")
	other := b.play(t, "demo", clientOptions{videoOnly: true, codecs: func(m *webrtc.MediaEngine) error {
		return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000,
			SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}}, webrtc.RTPCodecTypeVideo)
	}})
	testkit.Eventually(t, 10*time.Second, "pictures of H.264", func() bool { return len(other.packets()) > 20 })
	stop()
	time.Sleep(200 * time.Millisecond) // what was on the way is shown
	sent := len(other.packets())
	type picture struct{ Share, Mean, Width float64 }
	last := chromium.Eval[picture](tab, light)
	testkit.Eventually(t, 5*time.Second, "the slate in H.264", func() bool { return len(other.packets()) > sent })
	if p := chromium.Eval[picture](tab, light); p != last || p.Mean < 60 {
		t.Errorf("the picture is %+v, was %+v", p, last)
	}
	if status, _, _ := b.do(t, "POST", b.url+"/whep/demo", "application/sdp", other.pc.LocalDescription().SDP, nil); status != http.StatusConflict {
		t.Errorf("who joins: %d", status)
	}
	shown := chromium.Eval[struct{ Shown int }](tab, "inbound()").Shown
	render(t, b.hub, "demo", both)
	tab.Wait(10*time.Second, fmt.Sprintf("inbound().then(s => s.shown > %d)", shown+20), "inbound()")
	if s := chromium.Eval[struct{ Lost, PLI int }](tab, "inbound()"); s.Lost != 0 {
		t.Errorf("%+v", s)
	}
}
