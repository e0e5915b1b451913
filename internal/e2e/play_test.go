package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/device/testsrc"
	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
)

// player is the player of the relay's own page.
const player = `document.querySelector("gantry-player").player`

// openPlayer opens a player page and waits until it plays.
func openPlayer(t *testing.T, url string) *chromium.Page {
	t.Helper()
	p := chromium.Open(t, chromium.Options{}, url)
	p.Wait(30*time.Second, player+`.state === "playing"`, player+".status")
	return p
}

// watcher reads, from every decoded picture, the counter that the test source burnt in, and listens to the sound.
const watcher = testsrcMark + `
window.watchStream = async (seconds) => {
  const stream = ` + player + `.video.srcObject;
  const track = stream.getVideoTracks()[0].clone();
  const reader = new MediaStreamTrackProcessor({track, maxBufferSize: 60}).readable.getReader();
  const audio = new AudioContext({sampleRate: 48000});
  const analyser = new AnalyserNode(audio, {fftSize: 8192, smoothingTimeConstant: 0});
  audio.createMediaStreamSource(stream).connect(analyser);
  const spectrum = new Float32Array(analyser.frequencyBinCount), wave = new Float32Array(analyser.fftSize);
  const out = {counters: [], unread: 0, width: 0, height: 0, tones: [], level: 0};
  const canvas = new OffscreenCanvas(320, 180), g = canvas.getContext("2d", {willReadFrequently: true}); // enough to read the mark
  let last = null;
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const {value: frame, done} = await reader.read();
    if (done) break;
    if (frame.timestamp === last) { // the browser shows a picture again when the next one is late
      frame.close();
      continue;
    }
    last = frame.timestamp;
    [out.width, out.height] = [frame.displayWidth, frame.displayHeight];
    g.drawImage(frame, 0, 0, canvas.width, canvas.height);
    frame.close();
    const mark = gantryDecodeMark(g.getImageData(0, 0, canvas.width, canvas.height));
    if (mark) out.counters.push(mark.counter); else out.unread++;
    if (out.counters.length % 10 === 0) {
      analyser.getFloatFrequencyData(spectrum);
      analyser.getFloatTimeDomainData(wave);
      out.tones.push(Math.round(spectrum.indexOf(Math.max(...spectrum)) * 48000 / 8192));
      out.level = Math.max(out.level, ...wave);
    }
  }
  track.stop();
  await audio.close();
  return out;
};
true`

// testsrcMark is replaced when the script is used: the function lives in device/testsrc.
const testsrcMark = "/*mark*/"

type watched struct {
	Counters []int   `json:"counters"`
	Unread   int     `json:"unread"`
	Width    int     `json:"width"`
	Height   int     `json:"height"`
	Tones    []int   `json:"tones"` // Hz, the loudest now and then
	Level    float64 `json:"level"`
}

// attempts is how often a test may ask for an undisturbed stretch: another program that takes the processors for a moment
// makes a camera leave pictures out, and that is right.
const attempts = 3

// undisturbed runs try until it returns no error, and fails the test after the last attempt.
func undisturbed(t *testing.T, try func() error) {
	t.Helper()
	for n := 1; ; n++ {
		err := try()
		if err == nil {
			return
		}
		if n == attempts {
			t.Errorf("%v (attempt %d)", err, n)
			return
		}
		t.Logf("%v (attempt %d)", err, n)
	}
}

// rising returns an error unless each counter is one more than the one before.
func rising(counters []int) error {
	for i := 1; i < len(counters); i++ {
		if counters[i] != counters[i-1]+1 {
			return fmt.Errorf("after picture %d comes %d; %d pictures in all", counters[i-1], counters[i], len(counters))
		}
	}
	return nil
}

// The whole path: what gantryd draws is what Chromium shows, picture by picture, with its sound.
func TestChromiumPlaysTheDemo(t *testing.T) {
	_, viewer := startDemo(t)
	p := openPlayer(t, viewer)
	chromium.Eval[bool](p, strings.Replace(watcher, testsrcMark, testsrc.DecodeJS, 1))
	time.Sleep(2 * time.Second) // the browser's jitter buffer settles: pictures of the first second come in a burst
	var got watched
	undisturbed(t, func() error {
		got = chromium.Eval[watched](p, "watchStream(10)")
		if len(got.Counters) < 290 || got.Unread > 0 {
			return fmt.Errorf("10 s gave %d pictures with a readable counter and %d without, want about 300 and none", len(got.Counters), got.Unread)
		}
		return rising(got.Counters)
	})
	if got.Width != 1280 || got.Height != 720 {
		t.Errorf("the picture is %dx%d, want 1280x720", got.Width, got.Height)
	}
	// A steady 440 Hz on the left and 880 Hz on the right, and a 1 kHz beep each second.
	heard := 0
	for _, hz := range got.Tones {
		if slices.ContainsFunc([]int{440, 880, 1000}, func(want int) bool { return math.Abs(float64(hz-want)) < 12 }) {
			heard++
		}
	}
	if heard < len(got.Tones)*8/10 || heard == 0 || got.Level < 0.05 {
		t.Errorf("the sound is not the tone: loudest frequencies %v Hz, level %.3f", got.Tones, got.Level)
	}

	type latency struct {
		Median float64 `json:"median"`
		P95    float64 `json:"p95"`
		Source string  `json:"source"`
		Frames int     `json:"frames"`
	}
	l := chromium.Eval[latency](p, player+".stats.latency")
	t.Logf("capture to screen: median %.0f ms, p95 %.0f ms (%d pictures, by %s)", l.Median, l.P95, l.Frames, l.Source)
	if l.Frames == 0 || l.Median <= 0 || l.Median > 2000 {
		t.Errorf("the player measures no believable latency: %+v", l)
	}
}

// Debian's ffmpeg decodes what a viewer receives, and every picture is the one that was sent.
func TestFFmpegDecodesWhatAViewerReceives(t *testing.T) {
	_, viewer := startDemo(t)
	out := filepath.Join(t.TempDir(), "seen.h264")
	watch := strings.Replace(viewer, "/play/", "/whep/", 1)
	undisturbed(t, func() error {
		said, err := exec.Command(testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--frames", "150", "--timeout", "30s", "--out", out, watch).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		counters, unread := decodeMarks(t, out, 1280, 720)
		if len(counters)+unread != 150 {
			t.Fatalf("ffmpeg decodes %d pictures of the 150 received", len(counters)+unread)
		}
		if unread > 0 {
			return fmt.Errorf("%d pictures without a readable counter", unread)
		}
		return rising(counters)
	})
}

// decodeMarks decodes an H.264 file with ffmpeg, which must find no fault in it, and reads the burnt-in counters.
func decodeMarks(t *testing.T, path string, width, height int) (counters []int, unread int) {
	t.Helper()
	cmd := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-err_detect", "explode", "-i", path,
		"-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	pictures, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("ffmpeg decodes: %v\n%s", err, &complaints)
	}
	size := width * height
	if len(pictures)%size != 0 {
		t.Fatalf("%d bytes are no pictures of %dx%d", len(pictures), width, height)
	}
	for ; len(pictures) > 0; pictures = pictures[size:] {
		if mark, err := testsrc.Decode(pictures[:size], width, width, height); err != nil {
			unread++
		} else {
			counters = append(counters, int(mark.Counter))
		}
	}
	return counters, unread
}

// Chromium's own encoder and WebRTC stack publish its fake camera; another Chromium plays it, and ffmpeg decodes it.
func TestChromiumPublishes(t *testing.T) {
	base := startRelay(t)
	publisher := publisherPage(t)
	session := chromium.Eval[string](publisher, fmt.Sprintf("publish(%q)", base+"/whip/browser"))
	if !strings.HasPrefix(session, base+"/") {
		t.Errorf("the session's address is %q", session)
	}

	out := filepath.Join(t.TempDir(), "seen.h264")
	said, err := exec.Command(testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--frames", "60", "--timeout", "30s", "--out", out, base+"/whep/browser").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	complaints, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-i", out, "-f", "null", "-").CombinedOutput()
	if err != nil || len(complaints) > 0 {
		t.Errorf("ffmpeg decodes: %v\n%s", err, complaints)
	}

	viewer := openPlayer(t, base+"/play/browser")
	viewer.Wait(20*time.Second, player+".stats?.video?.frames > 60 && "+player+".stats.audio?.samples > 48000", player+".stats")

	// DELETE ends the session, as RFC 9725 has it.
	if got := chromium.Eval[int](publisher, `fetch(session, {method: "DELETE"}).then((r) => r.status)`); got != http.StatusOK {
		t.Errorf("DELETE: %d", got)
	}
}

// publisherPage opens a page with a function publish(url, encodings, codec, token), which publishes the browser's fake camera.
func publisherPage(t *testing.T) *chromium.Page {
	site := httptest.NewServer(publisherSite)
	t.Cleanup(site.Close)
	return chromium.Open(t, chromium.Options{FakeCamera: true}, site.URL)
}

// publisherSite is what it is read from.
var publisherSite = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, `<!doctype html><title>publisher</title><script>
async function publish(url, encodings, codec = "H264", token = "") {
  const media = await navigator.mediaDevices.getUserMedia({video: {width: 640, height: 480, frameRate: 30}, audio: true});
  const pc = window.pc = new RTCPeerConnection();
  for (const track of media.getTracks()) {
    const init = {direction: "sendonly"};
    if (encodings && track.kind === "video") init.sendEncodings = encodings;
    const transceiver = pc.addTransceiver(track, init);
    if (track.kind === "video") transceiver.setCodecPreferences(
      RTCRtpSender.getCapabilities("video").codecs.filter((c) => c.mimeType === "video/" + codec || c.mimeType === "video/rtx"));
  }
  await pc.setLocalDescription();
  while (pc.iceGatheringState !== "complete") await new Promise((resolve) => pc.addEventListener("icegatheringstatechange", resolve, {once: true}));
  const answer = await fetch(url, {method: "POST", body: pc.localDescription.sdp,
    headers: {"Content-Type": "application/sdp", ...(token && {Authorization: "Bearer " + token})}});
  if (answer.status !== 201) throw new Error(answer.status + " " + await answer.text());
  window.session = new URL(answer.headers.get("Location"), url).href;
  await pc.setRemoteDescription({type: "answer", sdp: await answer.text()});
  while (pc.connectionState !== "connected") await new Promise((resolve) => pc.addEventListener("connectionstatechange", resolve, {once: true}));
  return window.session;
}
</script>`)
})
