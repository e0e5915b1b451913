package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/relay/web"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var serving = regexp.MustCompile(`msg=serving http=(\S+) rtc=(\S+)`)

// startRelay runs a relay at free ports until the test ends and returns its address.
func startRelay(t *testing.T, args ...string) string {
	t.Helper()
	var log testkit.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	args = append([]string{"--http", "127.0.0.1:0", "--rtc", "127.0.0.1:0", "--srt", ":0", "--rtmp", ":0", "--rtmps", ":0"}, args...)
	go func() { ended <- run(ctx, args, io.Discard, &log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the relay's log:\n%s", log.String())
		}
	})
	var m []string
	testkit.Eventually(t, 10*time.Second, "the line that says where the relay is", func() bool {
		m = serving.FindStringSubmatch(log.String())
		return m != nil
	})
	return m[1]
}

// publisher is a page that sends the browser's fake camera and microphone over WHIP, from another origin than the relay's.
const publisher = `<!doctype html><script type="module">
window.publish = async (url, token) => {
	const pc = new RTCPeerConnection({bundlePolicy: "max-bundle"});
	const media = await navigator.mediaDevices.getUserMedia({video: {width: 640, height: 360, frameRate: 30}, audio: true});
	for (const track of media.getTracks()) {
		const t = pc.addTransceiver(track, {direction: "sendonly", streams: [media]});
		if (track.kind === "video") t.setCodecPreferences(RTCRtpSender.getCapabilities("video").codecs.filter((c) => /H264|rtx/i.test(c.mimeType)));
	}
	await pc.setLocalDescription();
	await new Promise((done) => { pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && done(); });
	const r = await fetch(url, {method: "POST", headers: {"Content-Type": "application/sdp", ...(token && {Authorization: "Bearer " + token})}, body: pc.localDescription.sdp});
	const body = await r.text();
	if (r.status !== 201) return r.status + " " + body;
	window.session = new URL(r.headers.get("Location"), r.url);
	await pc.setRemoteDescription({type: "answer", sdp: body});
	window.pc = pc;
	return "201";
};
</script>`

func publisherPage(t *testing.T) *chromium.Page {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, publisher)
	}))
	t.Cleanup(server.Close)
	page := chromium.Open(t, chromium.Options{FakeCamera: true}, server.URL)
	page.Wait(10*time.Second, "window.publish", "")
	return page
}

// The whole relay: Chromium publishes, `watch` and another Chromium play, tokens on both sides, and the list tells of it.
func TestBrowserToBrowser(t *testing.T) {
	base := startRelay(t, "--publish-token", "publish-token-1", "--play-token", "play-token-1")
	camera := publisherPage(t)
	if got := chromium.Eval[string](camera, fmt.Sprintf(`publish("%s/whip/studio/cam", "wrong-token")`, base)); !strings.HasPrefix(got, "401 ") {
		t.Errorf("published with a wrong token: %s", got)
	}
	if got := chromium.Eval[string](camera, fmt.Sprintf(`publish("%s/whip/studio/cam", "publish-token-1")`, base)); got != "201" {
		t.Fatalf("publish: %s", got)
	}

	// The frames that watch writes are frames to a decoder that is not ours.
	out := filepath.Join(t.TempDir(), "seen.h264")
	var said testkit.Buffer
	if err := run(t.Context(), []string{"watch", base + "/whep/studio/cam", "--wait", "--token", "play-token-1", "--frames", "60", "--out", out, "--json"}, &said, os.Stderr); err != nil {
		t.Fatalf("watch: %v\n%s", err, said.String())
	}
	t.Log(said.String())
	var r report
	if err := json.Unmarshal([]byte(said.String()), &r); err != nil {
		t.Fatal(err)
	}
	if r.Codec != "H264" || r.Width == 0 || r.Decodable != 60 || r.KeyFrames < 1 || r.FirstKeyFrame <= 0 || r.Audio.Packets == 0 {
		t.Errorf("watch saw %+v", r)
	}
	probe, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames", "-of", "csv=p=0", out).CombinedOutput()
	if got := strings.TrimSpace(string(probe)); err != nil || got != "h264,60" {
		t.Errorf("ffprobe: %s %v", got, err)
	}

	viewer := chromium.Open(t, chromium.Options{}, base+"/play/studio/cam?stats=1&token=play-token-1")
	player := `document.querySelector("gantry-player").player`
	viewer.Wait(15*time.Second, player+`.state === "playing"`, player+".status")
	viewer.Wait(10*time.Second, player+`.stats.video.frames > 60 && `+player+`.stats.audio.samples > 0`, player+".stats")
	t.Logf("the player: %s", chromium.Eval[string](viewer, "JSON.stringify("+player+".stats)"))

	res, err := http.Get(base + "/api/v1/streams?token=publish-token-1")
	if err != nil {
		t.Fatal(err)
	}
	list, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	for _, want := range []string{`"name":"studio/cam"`, `"live":true`, `"viewers":1`, `"protocol":"whip"`, `"remote":"`, `"width":`} {
		if !strings.Contains(string(list), want) {
			t.Errorf("no %s in %s", want, list)
		}
	}

	// The publisher goes: viewers are told, and see it again when it comes back.
	chromium.Eval[int](camera, `fetch(session, {method: "DELETE", headers: {Authorization: "Bearer publish-token-1"}}).then((r) => r.status)`)
	viewer.Wait(15*time.Second, player+`.state === "stalled"`, player+".status")
	if got := chromium.Eval[string](camera, fmt.Sprintf(`publish("%s/whip/studio/cam", "publish-token-1")`, base)); got != "201" {
		t.Fatalf("publish again: %s", got)
	}
	viewer.Wait(15*time.Second, player+`.state === "playing"`, player+".status")
}

func TestWatchSaysWhy(t *testing.T) {
	base := startRelay(t, "--play-token", "play-token-1", "--publish-token", "publish-token-1")
	for _, c := range []struct{ url, token, want string }{
		{base + "/whep/demo", "", "401 Unauthorized: a token is needed"},
		{base + "/whep/demo", "wrong-token", "401 Unauthorized: the token is not accepted"},
		{base + "/whep/demo", "play-token-1", "409 Conflict: "},
		{"http://127.0.0.1:1/whep/demo", "", "connection refused"},
		{base + "/", "play-token-1", "405 Method Not Allowed"},
	} {
		err := run(t.Context(), []string{"watch", "--token", c.token, "--timeout", "5s", c.url}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.url, err, c.want)
		}
		if err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("the token is shown: %v", err)
		}
	}
	begun := time.Now()
	err := run(t.Context(), []string{"watch", "--wait", "--token", "play-token-1", "--timeout", "1s", base + "/whep/demo"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "409") || time.Since(begun) < 900*time.Millisecond {
		t.Errorf("watch --wait ended after %v: %v", time.Since(begun), err)
	}
}

// What FFmpeg publishes over SRT and RTMP is on the air, with the tokens and passphrases that WHIP and the file have.
func TestOtherIngests(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "relay.yaml")
	if err := os.WriteFile(file, []byte("publish-token: [publish-token-1]\nsrt-passphrases: {vault: the-vault-horse}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	base := startRelay(t, "--config", file, "--tls-cert", cert, "--tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	get := func(path string) string {
		t.Helper()
		res, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return string(body)
	}
	var list web.Streams
	if err := json.Unmarshal([]byte(get("/api/v1/streams")), &list); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		format, url string
		protocol    string
	}{
		{"mpegts", fmt.Sprintf("srt://127.0.0.1:%d?streamid=publish:a:publish-token-1", list.Publish.SRT), "srt"},
		{"mpegts", fmt.Sprintf("srt://127.0.0.1:%d?streamid=publish:vault:publish-token-1&passphrase=the-vault-horse", list.Publish.SRT), "srt"},
		{"flv", fmt.Sprintf("rtmp://127.0.0.1:%d/live/c?token=publish-token-1", list.Publish.RTMP), "rtmp"},
		{"flv", fmt.Sprintf("rtmps://127.0.0.1:%d/live/d?token=publish-token-1", list.Publish.RTMPS), "rtmp"},
	} {
		ffmpeg := exec.Command("ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=15", "-t", "20",
			"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-f", c.format, c.url)
		if err := ffmpeg.Start(); err != nil {
			t.Fatal(err)
		}
		name := string("abcd"[i])
		if strings.Contains(c.url, "vault") {
			name = "vault"
		}
		testkit.Eventually(t, 10*time.Second, c.url+" is live", func() bool {
			var list web.Streams
			_ = json.Unmarshal([]byte(get("/api/v1/streams?token=publish-token-1")), &list)
			for _, s := range list.Streams {
				if s.Name == name && s.Live && s.Publishers[0].Protocol == c.protocol && s.Publishers[0].Tracks[0].Width == 160 {
					return true
				}
			}
			return false
		})
		_ = ffmpeg.Process.Kill()
		_ = ffmpeg.Wait()
	}
	if out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=15", "-t", "5", "-f", "flv",
		fmt.Sprintf("rtmp://127.0.0.1:%d/live/a?token=wrong-token", list.Publish.RTMP)).CombinedOutput(); err == nil {
		t.Errorf("a wrong token publishes: %s", out)
	}
	figures := get("/metrics")
	for _, want := range []string{"gantry_ingest_rtmp_refused_sessions_total 1", "gantry_ingest_srt_refused_sessions_total 0"} {
		if !strings.Contains(figures, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	for _, name := range []string{"gantry_ingest_srt_received_packets_total", "gantry_ingest_rtmp_received_bytes_total"} {
		if !regexp.MustCompile(name + ` [1-9]`).MatchString(figures) {
			t.Errorf("%s counts nothing", name)
		}
	}
}
