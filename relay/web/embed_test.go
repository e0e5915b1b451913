package web

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gantry/device/testsrc"
	"gantry/internal/testkit/chromium"
	"gantry/media"
)

// elsewhere serves an HTML page from another origin than the relay's.
func elsewhere(t *testing.T, html string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html>"+html)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A page of somebody else imports the module, the element, or frames the player page: each plays.
func playerIsEmbedded(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	page.Navigate(elsewhere(t, strings.ReplaceAll(`
		<video id="plain" width="320"></video>
		<gantry-player id="element" src="RELAY/whep/studio/wide" controls="0"></gantry-player>
		<iframe src="RELAY/play/studio/wide" width="640" height="360" allow="autoplay; fullscreen"></iframe>
		<script type="module" src="RELAY/gantry-player/element.js"></script>
		<script type="module">
			import {GantryPlayer} from "RELAY/gantry-player.js";
			window.states = [];
			window.player = new GantryPlayer(document.querySelector("#plain"), {url: "RELAY/whep/studio/wide"});
			player.addEventListener("state", (e) => states.push(e.detail.state));
		</script>`, "RELAY", s.server.URL)))
	page.Wait(15*time.Second, `player.state === "playing" && document.querySelector("#plain").videoWidth === 640`, "player.status")
	page.Wait(15*time.Second, `document.querySelector("#element").player.state === "playing"`, `document.querySelector("#element").player.status`)
	page.Wait(5*time.Second, `player.stats?.latency.median !== null`, "player.stats")
	if got := chromium.Eval[string](page, "states.join()"); got != "connecting,playing" {
		t.Errorf("states %s", got)
	}
	deadline := time.Now().Add(15 * time.Second)
	for viewers := 0; viewers < 3; viewers = s.hub.Streams()[0].Viewers { // the frame's inside is not ours to look at
		if time.Now().After(deadline) {
			t.Fatalf("%d viewers, want 3: the framed player page does not play", viewers)
		}
		time.Sleep(20 * time.Millisecond)
	}
	chromium.Eval[bool](page, `(player.close(), document.querySelector("#element").remove(), true)`)
	for viewers := 3; viewers != 1; viewers = s.hub.Streams()[0].Viewers {
		if time.Now().After(deadline) {
			t.Fatalf("%d viewers after two of three have left", viewers)
		}
		time.Sleep(20 * time.Millisecond)
	}
	page.Screenshot("embedded")
}

// A session moves to a new path by ICE restart without an interruption.
func playerRestartsICE(t *testing.T, page *chromium.Page) {
	s := newStation(t, camera, accessUnits(t))
	page.Navigate(s.server.URL + "/play/none?autoplay=0")
	got := chromium.Eval[string](page, `(async () => {
		const {WhepSession} = await import("/gantry-player/whep.js");
		const session = new WhepSession({url: "/whep/studio/wide"});
		const connected = () => new Promise((done) => { const look = () => session.connected ? done() : setTimeout(look, 20); look(); });
		const ufrag = () => session.pc.remoteDescription.sdp.match(/^a=ice-ufrag:(\S+)/m)[1];
		const frames = async () => [...(await session.pc.getStats()).values()].find((s) => s.type === "inbound-rtp")?.framesDecoded ?? 0;
		await session.open();
		await connected();
		const before = [ufrag(), await frames()];
		await session.restart();
		await connected();
		await session.probe();
		await new Promise((done) => setTimeout(done, 1000));
		const result = ufrag() === before[0] ? "same credentials" : await frames() > before[1] + 15 ? "moved" : "no picture any more";
		session.close();
		await new Promise((done) => setTimeout(done, 300));
		return result;
	})()`)
	if got != "moved" {
		t.Error(got)
	}
}

// Sound that the browser does not allow yet does not keep the picture away, and a click brings it.
func TestPlayerWithoutLeaveForSound(t *testing.T) {
	s := newStation(t, append([]media.Track{{Codec: media.Opus, ClockRate: 48000, Channels: 2}}, camera...), accessUnits(t))
	page := chromium.Open(t, chromium.Options{Flags: []string{"autoplay-policy=document-user-activation-required"}}, s.server.URL+"/play/studio/wide?muted=0")
	page.Wait(15*time.Second, playing, status)
	if !chromium.Eval[bool](page, `document.querySelector("gantry-player").video.muted`) {
		t.Error("plays loudly without leave")
	}
	page.Wait(5*time.Second, `!document.querySelector("gantry-player").shadowRoot.querySelector(".loud").hidden`, "")
	page.Screenshot("sound")
	page.Click("gantry-player") // a real one: browsers tell it from a script's
	page.Wait(5*time.Second, `!document.querySelector("gantry-player").video.muted`, "")
}

func playerSaysThatItCannotDecode(t *testing.T, page *chromium.Page) {
	for _, c := range []struct {
		name   string
		track  media.Track
		reason string
		words  []string
	}{
		{"codec", media.Track{Codec: media.H265, ClockRate: 90000}, "codec", []string{"cannot decode the stream", "H265"}},
		{"undecodable", camera[0], "undecodable", []string{"cannot decode it", "It is coded in H264"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := page.For(t)
			noise := make([][]byte, 30)
			for i := range noise {
				noise[i] = make([]byte, 900)
				_, _ = rand.Read(noise[i])
				nalu := byte(0x65) // H.264: IDR
				if c.track.Codec == media.H265 {
					nalu = 0x26 // H.265: IDR_W_RADL
				}
				copy(noise[i], []byte{0, 0, 0, 1, nalu, 1})
			}
			s := newStation(t, []media.Track{c.track}, noise)
			page.Navigate(s.server.URL + "/play/studio/wide")
			page.Wait(25*time.Second, fmt.Sprintf("%s.reason === %q", status, c.reason), status)
			text := chromium.Eval[string](page, visible)
			for _, want := range c.words {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in what the viewer reads:\n%s", want, text)
				}
			}
			page.Screenshot(c.name)
		})
	}
}

// The clock in the test source's picture is read as it was drawn, at any size.
func playerReadsTheClockInThePicture(t *testing.T, page *chromium.Page) {
	server := serve(t, onAir, nil, http.NotFound)
	page.Navigate(server.URL + "/play/demo?autoplay=0")
	at := time.UnixMilli(1_790_000_123_457)
	for _, size := range [][2]int{{320, 180}, {640, 360}, {1280, 720}, {1920, 1080}, {854, 480}} {
		w, h := size[0], size[1]
		yuv, err := testsrc.Render(testsrc.Config{Width: w, Height: h, Rate: media.Rational{Num: 30, Den: 1}}.Format(), 7, at)
		if err != nil {
			t.Fatal(err)
		}
		var picture bytes.Buffer
		if err := png.Encode(&picture, &image.Gray{Pix: yuv[:w*h], Stride: w, Rect: image.Rect(0, 0, w, h)}); err != nil {
			t.Fatal(err)
		}
		got := chromium.Eval[float64](page, fmt.Sprintf(`(async () => {
			const {readClock} = await import("/gantry-player/clock.js");
			const bytes = Uint8Array.from(atob(%q), (c) => c.charCodeAt(0));
			return readClock(await createImageBitmap(new Blob([bytes], {type: "image/png"})), %d, %d) ?? -1;
		})()`, base64.StdEncoding.EncodeToString(picture.Bytes()), w, h))
		if int64(got) != at.UnixMilli() {
			t.Errorf("%dx%d: read %.0f, want %d", w, h, got, at.UnixMilli())
		}
	}
	if got := chromium.Eval[bool](page, `import("/gantry-player/clock.js").then(({readClock}) => readClock(new OffscreenCanvas(640, 360), 640, 360) === null ||
		readClock((() => { const c = new OffscreenCanvas(640, 360); c.getContext("2d").fillRect(0, 0, 9, 9); return c; })(), 640, 360) === null)`); !got {
		t.Error("a time is read from a picture without one")
	}
}
