package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
)

// listener hears the player's sound for some seconds: its loudest frequency and level now and then, and the pictures shown.
const listener = `
window.listen = async (seconds) => {
  const video = ` + player + `.video, audio = new AudioContext({sampleRate: 48000});
  const analyser = new AnalyserNode(audio, {fftSize: 8192, smoothingTimeConstant: 0});
  audio.createMediaStreamSource(video.srcObject).connect(analyser);
  const spectrum = new Float32Array(analyser.frequencyBinCount), wave = new Float32Array(analyser.fftSize);
  const out = {tones: [], levels: [], frames: video.getVideoPlaybackQuality().totalVideoFrames};
  for (const end = performance.now() + seconds * 1000; performance.now() < end;) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    analyser.getFloatFrequencyData(spectrum);
    analyser.getFloatTimeDomainData(wave);
    out.tones.push(Math.round(spectrum.indexOf(Math.max(...spectrum)) * 48000 / 8192));
    out.levels.push(Math.max(...wave));
  }
  out.frames = video.getVideoPlaybackQuality().totalVideoFrames - out.frames;
  await audio.close();
  return out;
};
true`

type heard struct {
	Tones  []int     `json:"tones"`
	Levels []float64 `json:"levels"`
	Frames int       `json:"frames"`
}

// publishFFmpeg sends a picture and a 440 Hz tone as AAC until the test ends.
func publishFFmpeg(t *testing.T, format, url string) {
	t.Helper()
	process := testkit.StartCmd(t, exec.Command("ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30",
		"-f", "lavfi", "-i", "aevalsrc='0.5*sin(880*PI*t)|0.5*sin(880*PI*t)':s=44100", "-t", "120",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "30", "-c:a", "aac", "-b:a", "128k", "-f", format, url))
	t.Cleanup(process.Kill) // it reports a failure when it is asked to end
}

// ports are the relay's others, as its API tells.
func ports(t *testing.T, base string) (p struct{ SRT, RTMP int }) {
	t.Helper()
	var answer struct {
		Publish *struct{ SRT, RTMP int } `json:"publish"`
	}
	answer.Publish = &p
	res, err := http.Get(base + "/api/v1/streams")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return p
}

// What FFmpeg publishes with AAC over SRT and RTMP, and what the relay fetches over RTSP, Chromium plays with the sound that was sent.
// (WHIP's is in TestChromiumPlaysTheDemo.)
func TestChromiumPlaysOtherIngests(t *testing.T) {
	camera := startCamera(t)
	file := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("pull: [{name: rtsp, url: %q}]\n", camera)), 0o600); err != nil {
		t.Fatal(err)
	}
	publishFFmpeg(t, "rtsp", camera)
	base := startRelayAt(t, testkit.Bin(t, "gantry-relay"), "--config", file, "--srt", ":0", "--rtmp", ":0")
	p := ports(t, base)
	publishFFmpeg(t, "mpegts", fmt.Sprintf("srt://127.0.0.1:%d?streamid=srt", p.SRT))
	publishFFmpeg(t, "flv", fmt.Sprintf("rtmp://127.0.0.1:%d/live/rtmp", p.RTMP))
	var page *chromium.Page
	for _, stream := range []string{"srt", "rtmp", "rtsp"} {
		if address := base + "/play/" + stream; page == nil {
			page = chromium.Open(t, chromium.Options{}, address)
		} else {
			page.Navigate(address)
		}
		page.Wait(30*time.Second, player+`?.state === "playing" && `+player+`.stats?.audio?.samples > 0`, player+".status")
		chromium.Eval[bool](page, listener)
		var got heard
		undisturbed(t, func() error {
			got = chromium.Eval[heard](page, "listen(3)")
			right := 0
			for i, hz := range got.Tones {
				if math.Abs(float64(hz-440)) < 12 && math.Abs(got.Levels[i]-0.5) < 0.1 {
					right++
				}
			}
			if right < len(got.Tones)*8/10 || got.Frames < 75 {
				return fmt.Errorf("%s: %d pictures in 3 s, want 90; tones %v at %.2f, want 440 Hz at 0.5", stream, got.Frames, got.Tones, got.Levels)
			}
			return nil
		})
		t.Logf("%s: %d pictures in 3 s, %d Hz at %.2f", stream, got.Frames, got.Tones[0], slices.Max(got.Levels))
	}

	// The list says where to publish to.
	page.Navigate(base + "/")
	page.Wait(10*time.Second, fmt.Sprintf(`document.querySelector("#srt").checkVisibility() && document.querySelector("#srt").textContent === "srt://127.0.0.1:%d?streamid=demo" &&
		document.querySelector("#rtmp").textContent === "rtmp://127.0.0.1:%d/live/demo"`, p.SRT, p.RTMP), `document.querySelector("#publish").innerText`)

	// A relay without FFmpeg plays the picture and says why there is no sound.
	bare := filepath.Join(t.TempDir(), "gantry-relay")
	build := exec.Command("go", "build", "-o", bare, "gantry/cmd/gantry-relay")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	base = startRelayAt(t, bare, "--srt", ":0", "--rtmp", "")
	publishFFmpeg(t, "mpegts", fmt.Sprintf("srt://127.0.0.1:%d?streamid=srt", ports(t, base).SRT))
	page.Navigate(base + "/play/srt")
	page.Wait(30*time.Second, player+`?.state === "playing"`, player+".status")
	notice := `document.querySelector("gantry-player").shadowRoot.querySelector(".silent")`
	page.Wait(15*time.Second, `!`+notice+`.hidden && /^No sound: .*AAC.*without FFmpeg/.test(`+notice+`.textContent)`, notice+".outerHTML")
	t.Log(chromium.Eval[string](page, notice+".textContent"))
}
