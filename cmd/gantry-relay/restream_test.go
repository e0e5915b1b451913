package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/encoder/libav/sound"
	"gantry/internal/secret"
	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/relay/egress/restream"
	"gantry/relay/web"
)

// One relay sends what it gets on to another over SRT, RTMP and WHIP, as the API tells it while live.
func TestRestream(t *testing.T) {
	request := func(method, address, body string, into any) int {
		t.Helper()
		r, err := http.NewRequest(method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer publish-token-1")
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer http.DefaultClient.CloseIdleConnections()
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if into != nil {
			if err := json.Unmarshal(b, into); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
		}
		return res.StatusCode
	}
	far := startRelay(t, "--publish-token", "publish-token-2", "--hold", "0s")
	state := t.TempDir()
	near := startRelay(t, "--publish-token", "publish-token-1", "--state-dir", state)
	ports := func(base string) (p web.Publish) {
		var list web.Streams
		request("GET", base+"/api/v1/streams", "", &list)
		return list.Publish
	}
	ffmpeg := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=15", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-t", "60", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "15", "-c:a", "aac", "-f", "mpegts",
		fmt.Sprintf("srt://127.0.0.1:%d?streamid=publish:studio/a:publish-token-1", ports(near).SRT))
	if err := ffmpeg.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ffmpeg.Process.Kill(); _ = ffmpeg.Wait() }()

	api := near + "/api/v1/streams/studio/a/restream"
	p := ports(far)
	for name, d := range map[string]string{
		"srt":  fmt.Sprintf(`"srt://127.0.0.1:%d?streamid=publish:srt:publish-token-2"`, p.SRT),
		"rtmp": fmt.Sprintf(`"rtmp://127.0.0.1:%d/live/rtmp?token=publish-token-2"`, p.RTMP),
		"whip": fmt.Sprintf(`"%s/whip/whip", "token": "publish-token-2"`, far),
		"dead": `"rtmp://127.0.0.1:1/live/key-of-the-dead"`,
	} {
		if code := request("POST", api, fmt.Sprintf(`{"name": %q, "url": %s}`, name, d), nil); code != http.StatusCreated {
			t.Fatalf("POST %s: %d", name, code)
		}
	}
	live := func() (names map[string][]string) {
		names = map[string][]string{}
		var list web.Streams
		request("GET", far+"/api/v1/streams", "", &list)
		for _, s := range list.Streams {
			if s.Live {
				for _, track := range s.Publishers[0].Tracks {
					names[s.Name] = append(names[s.Name], track.Codec)
				}
			}
		}
		return names
	}
	want := map[string][]string{"srt": {"H264", "AAC"}, "rtmp": {"H264", "AAC"}, "whip": {"H264", "opus"}}
	if sound.Missing() == "" {
		testkit.Eventually(t, 20*time.Second, "all three arrive", func() bool { return fmt.Sprint(live()) == fmt.Sprint(want) })
	} else {
		testkit.Eventually(t, 20*time.Second, "all three arrive", func() bool { return len(live()) == 3 })
	}
	var states []restream.State
	request("GET", api, "", &states)
	for _, s := range states {
		if sending := s.State == "sending" && s.Reason == ""; sending == (s.Name == "dead") || strings.Contains(s.To+s.Reason, "key-of") {
			t.Errorf("%+v", s)
		}
	}
	if len(states) != 4 {
		t.Errorf("%d destinations", len(states))
	}

	if code := request("DELETE", api+"/srt", "", nil); code != http.StatusNoContent {
		t.Errorf("DELETE: %d", code)
	}
	testkit.Eventually(t, 10*time.Second, "one is gone and the others go on", func() bool { l := live(); return l["srt"] == nil && len(l) == 2 })
	if code := request("POST", api+"/rtmp/stop", "{}", nil); code != http.StatusNoContent {
		t.Errorf("stop: %d", code)
	}
	testkit.Eventually(t, 10*time.Second, "one is stopped", func() bool { l := live(); return l["rtmp"] == nil && len(l) == 1 })

	// A relay with the same memory knows them, and the stopped one as stopped.
	restarted := startRelay(t, "--publish-token", "publish-token-1", "--state-dir", state)
	request("GET", restarted+"/api/v1/restream", "", &states)
	known := map[string]string{}
	for _, s := range states {
		known[s.Stream+" "+s.Name] = s.State
	}
	if len(known) != 3 || known["studio/a rtmp"] != "stopped" || known["studio/a whip"] != "waiting" || known["studio/a dead"] != "waiting" {
		t.Errorf("after a restart: %v", known)
	}
	if info, err := os.Stat(filepath.Join(state, "restream.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if code := request("POST", api+"/rtmp/start", "{}", nil); code != http.StatusNoContent {
		t.Errorf("start: %d", code)
	}
	testkit.Eventually(t, 20*time.Second, "it sends again", func() bool { return len(live()) == 2 })
	for _, c := range []struct {
		method, address, body string
		want                  int
	}{
		{"DELETE", api + "/srt", "", 404},
		{"POST", api, `{"name": "x", "url": "ftp://host"}`, 400},
		{"POST", api, `{"name": "../x", "url": "rtmp://host/live/x"}`, 400},
		{"POST", api, `{"nam": "x"}`, 400},
		{"PUT", api, "", 405},
		{"POST", api + "/nothing/stop", "{}", 404},
		{"GET", api + "/rtmp/stop", "", 405},
		{"POST", near + "/api/v1/restream", "{}", 405},
		{"GET", far + "/api/v1/restream", "", 401},
		{"GET", far + "/api/v1/streams/srt/restream", "", 401}, // this token is the other's
	} {
		if got := request(c.method, c.address, c.body, nil); got != c.want {
			t.Errorf("%s %s %s: %d, want %d", c.method, c.address, c.body, got, c.want)
		}
	}
}

// The page asks for the token, adds a destination, steers it and takes it away; what another server says goes in as text.
func TestRestreamPage(t *testing.T) {
	base := startRelay(t, "--publish-token", "publish-token-1", "--state-dir", t.TempDir())
	p := chromium.Open(t, chromium.Options{}, base+"/restream")
	fill := func(form string, values map[string]string) {
		script := "(() => { const f = document.querySelector('" + form + "');"
		for name, value := range values {
			script += fmt.Sprintf("f.elements[%q].value = %q;", name, value)
		}
		chromium.Eval[bool](p, script+"f.requestSubmit(); return true; })()")
	}
	says := func(text string) {
		t.Helper()
		p.Wait(10*time.Second, fmt.Sprintf("document.body.innerText.includes(%q)", text), "document.body.innerText")
	}
	p.Wait(10*time.Second, `!document.querySelector("#ask").hidden`, "document.body.innerText")
	fill("#ask", map[string]string{"token": "wrong"})
	says("That token is not accepted")
	fill("#ask", map[string]string{"token": "publish-token-1"})
	says("Nothing is sent on")
	fill("#add", map[string]string{"stream": "studio/a", "name": "tube", "url": "ftp://host"})
	says("want srt://")
	fill("#add", map[string]string{"stream": "studio/a", "name": "tube", "url": "rtmp://127.0.0.1:1/live/the-key"})
	says("0 of 1 sending")
	says("stream is not live")
	const buttons = `[...document.querySelectorAll(".destination button")]`
	click := func(text string) {
		chromium.Eval[bool](p, fmt.Sprintf(`(window.confirm = () => true, %s.find((b) => b.textContent === %q).click(), true)`, buttons, text))
	}
	p.Screenshot("restream")
	click("Stop")
	p.Wait(10*time.Second, `document.querySelector(".destination.stopped")`, "document.body.innerText")
	click("Start")
	p.Wait(10*time.Second, `document.querySelector(".destination.waiting")`, "document.body.innerText")
	if chromium.Eval[bool](p, `document.documentElement.outerHTML.includes("the-key")`) {
		t.Error("the page shows the key")
	}
	click("Remove")
	says("Nothing is sent on")
}

func FuzzOpenUplink(f *testing.F) {
	f.Add("srt://host:1?streamid=x&latency=200&passphrase=0123456789")
	f.Add("rtmps://host/live/key?x=y")
	f.Add("https://host/whip/a")
	f.Fuzz(func(t *testing.T, s string) {
		_, _, _ = openUplink(slog.New(slog.DiscardHandler))(restream.Destination{Stream: "a", Name: "b", URL: secret.String(s)})
	})
}
