package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/device/testsrc"
	"gantry/encoder/libav"
	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
)

// startBox starts gantryd and returns the address of its page.
func startBox(t *testing.T, config string) (page string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gantryd.yaml")
	page = testkit.FreeTCP(t)
	if err := os.WriteFile(file, []byte(fmt.Sprintf("http: %s\n", page)+config), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, testkit.Bin(t, "gantryd"), "--config", file).WaitLine(60*time.Second, "msg=connected")
	return page
}

func getJSON(t *testing.T, url string, to any) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(to); err != nil {
		t.Fatal(err)
	}
}

// The player's menu of layers, and the width of its picture.
const (
	menu  = `document.querySelector("gantry-player").shadowRoot.querySelector(".quality")`
	width = player + `.video.videoWidth`
)

// pick is a script that chooses a layer in the menu, waits for its width for 5 s and returns what the width is then.
func pick(rid, width string) string {
	return fmt.Sprintf(`(async () => {
		const m = %s; m.value = %q; m.dispatchEvent(new Event("change"));
		for (let i = 0; i < 100 && %s.video.videoWidth !== %s; i++) await new Promise((r) => setTimeout(r, 50));
		return %s.video.videoWidth;
	})()`, menu, rid, player, width, player)
}

// The box sends one picture in H.265 and in two sizes of H.264. Who decodes H.265 gets that; Chromium, which does not, gets H.264, and
// the size that it asks for, without a visible break at the change.
func TestSimulcast(t *testing.T) {
	if why := libav.Missing(); why != "" {
		t.Skip("no H.265 encoder in this build: ", why)
	}
	base := startRelay(t)
	page := startBox(t, fmt.Sprintf(`
video: {testsrc: {width: 640, height: 360, rate: 25}}
audio: {source: tone}
encoder: {codec: h265, bitrate: 1M}
renditions:
  - {name: mid, bitrate: 900k}
  - {name: low, width: 320, height: 180, bitrate: 300k}
uplinks:
  - {name: relay, simulcast: [mid, low], whip: {url: "%s/whip/layers"}}
`, base))
	var got string
	testkit.Eventually(t, 20*time.Second, "three layers and sound", func() bool {
		var list struct {
			Streams []struct {
				Publishers []struct {
					Tracks []struct {
						Codec, RID    string
						Width, Height int
						KeyFrames     int
					}
				}
			}
		}
		getJSON(t, base+"/api/v1/streams", &list)
		got = ""
		for _, s := range list.Streams {
			for _, track := range s.Publishers[0].Tracks {
				got += fmt.Sprintf("%s %s %dx%d %v\n", track.RID, track.Codec, track.Width, track.Height, track.KeyFrames > 0)
			}
		}
		return got == "main H265 640x360 true\nmid H264 640x360 true\nlow H264 320x180 true\n opus 0x0 false\n"
	})

	said, err := exec.Command(testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--json", "--timeout", "4s", base+"/whep/layers").Output()
	var seen struct {
		Codec string `json:"codec"`
		Units int    `json:"accessUnits"`
	}
	if json.Unmarshal(said, &seen) != nil || seen.Codec != "H265" || seen.Units < 50 {
		t.Errorf("a viewer that takes everything: %v %s", err, said)
	}

	p := openPlayer(t, base+"/play/layers")
	p.Wait(20*time.Second, width+` === 640 && `+menu+`.length === 3`, `[`+width+`, `+menu+`.outerHTML]`)
	if text := chromium.Eval[string](p, player+".stats.video.codec"); !strings.Contains(text, "H264") {
		t.Errorf("Chromium is sent %s", text)
	}
	chromium.Eval[bool](p, strings.Replace(watcher, testsrcMark, testsrc.DecodeJS, 1))
	undisturbed(t, func() error {
		chromium.Eval[bool](p, `(window.watching = watchStream(7), true)`)
		time.Sleep(time.Second)
		for _, c := range []struct{ rid, width string }{{"low", "320"}, {"mid", "640"}, {"low", "320"}, {"", "640"}} {
			if at := chromium.Eval[int](p, pick(c.rid, c.width)); fmt.Sprint(at) != c.width {
				return fmt.Errorf("layer %q: the picture is %d wide", c.rid, at)
			}
		}
		got := chromium.Eval[watched](p, "watching")
		if len(got.Counters) < 150 || got.Unread > 0 {
			return fmt.Errorf("7 s gave %d pictures, and %d that cannot be read", len(got.Counters), got.Unread)
		}
		// At a change the layers may be a few pictures apart: one is shown twice, or some are not.
		odd := 0
		for i := 1; i < len(got.Counters); i++ {
			step := got.Counters[i] - got.Counters[i-1]
			if step != 1 {
				odd++
			}
			if step < -1 || step > 6 {
				return fmt.Errorf("after picture %d comes %d", got.Counters[i-1], got.Counters[i])
			}
		}
		if odd > 8 {
			return fmt.Errorf("the pictures are out of step %d times at 4 changes", odd)
		}
		return nil
	})

	var box struct {
		Encoder    struct{ Codec string }
		Renditions []struct {
			Rendition, Codec, Name string
			Took, Bitrate          float64
		}
		Uplinks []struct{ Layers, Paused []string }
		CPU     float64
	}
	getJSON(t, "http://"+page+"/api/v1/status", &box)
	if len(box.Renditions) != 2 || box.Renditions[1].Rendition != "low" || box.Renditions[1].Took <= 0 || box.CPU <= 0 ||
		strings.Join(box.Uplinks[0].Layers, " ") != "main mid low" || box.Uplinks[0].Paused != nil {
		t.Errorf("%+v", box)
	}
	t.Logf("%+v", box)
}

// Chromium publishes its fake camera in two sizes; another Chromium plays the larger by itself, and each that it asks for. Of AV1 a
// layer is found by nothing but key frames as RTP's headers tell them.
func TestChromiumPublishesLayers(t *testing.T) {
	base := startRelay(t)
	publisher := publisherPage(t)
	p := chromium.Launch(t, chromium.Options{})
	for _, codec := range []string{"H264", "AV1"} {
		t.Run(codec, func(t *testing.T) {
			publisher, p := publisher.For(t), p.For(t)
			chromium.Eval[string](publisher, fmt.Sprintf(`publish(%q, [{rid: "l", scaleResolutionDownBy: 2, scalabilityMode: "L1T1", maxBitrate: 300000},
				{rid: "h", scalabilityMode: "L1T1", maxBitrate: 1000000}], %q)`, base+"/whip/"+codec, codec))
			publisher.Wait(30*time.Second, `pc.getStats().then((s) => [...s.values()].filter((r) => r.type === "outbound-rtp" && r.kind === "video" && r.framesSent > 30).length === 2)`,
				`pc.getStats().then((s) => [...s.values()].filter((r) => r.type === "outbound-rtp"))`)
			p.Navigate(base + "/play/" + codec)
			p.Wait(20*time.Second, width+` === 640 && `+menu+`.length === 3`, `[`+width+`, `+menu+`.outerHTML]`)
			p.Wait(5*time.Second, player+`.stats?.video?.codec.includes("`+codec+`")`, player+".stats")
			freezes := chromium.Eval[int](p, player+".stats.video.freezes")
			for _, c := range []struct{ rid, width string }{{"l", "320"}, {"h", "640"}, {"l", "320"}, {"", "640"}} {
				if at := chromium.Eval[int](p, pick(c.rid, c.width)); fmt.Sprint(at) != c.width {
					t.Errorf("layer %q: the picture is %d wide", c.rid, at)
				}
			}
			if n := chromium.Eval[int](p, player+".stats.video.freezes") - freezes; n > 1 { // a busy machine may make one
				t.Errorf("%d freezes at four changes", n)
			}
			chromium.Eval[bool](publisher, "(pc.close(), true)")
		})
	}
}

// FFmpeg sends two sizes of a picture, one over SRT and one over RTMP, which simulcastId makes layers of one stream; Chromium plays the
// larger, the one that it asks for, and the smaller when the larger's feed dies.
func TestFeedsAsLayers(t *testing.T) {
	base := startRelayAt(t, testkit.Bin(t, "gantry-relay"), "--srt", ":0", "--rtmp", ":0")
	p := ports(t, base)
	publish := func(size, format, url string, sound ...string) *testkit.Process {
		args := append([]string{"-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=rate=25:size=" + size, "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "90",
			"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "25", "-map", "0:v"}, sound...)
		process := testkit.StartCmd(t, exec.Command("ffmpeg", append(args, "-f", format, url)...))
		t.Cleanup(process.Kill)
		return process
	}
	large := publish("640x360", "mpegts", fmt.Sprintf("srt://127.0.0.1:%d?streamid=two%%3FsimulcastId%%3Dh", p.SRT), "-map", "1:a", "-c:a", "aac")
	publish("320x180", "flv", fmt.Sprintf("rtmp://127.0.0.1:%d/live/two?simulcastId=l", p.RTMP))
	page := openPlayer(t, base+"/play/two")
	page.Wait(30*time.Second, width+` === 640 && `+menu+`.length === 3`, `[`+width+`, `+menu+`.outerHTML]`)
	for _, c := range []struct{ rid, width string }{{"l", "320"}, {"h", "640"}, {"", "640"}} {
		if at := chromium.Eval[int](page, pick(c.rid, c.width)); fmt.Sprint(at) != c.width {
			t.Errorf("layer %q: the picture is %d wide", c.rid, at)
		}
	}
	page.Wait(10*time.Second, player+".stats?.audio?.samples > 48000", player+".stats")
	large.Kill()
	page.Wait(20*time.Second, width+" === 320", width)
}
