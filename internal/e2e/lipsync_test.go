package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/device/testsrc"
	"gantry/internal/testkit/chromium"
)

// lipSync compares when pictures are shown with when the beeps are heard, both on the clock of performance.now: the mark says when
// a picture was drawn, and a beep begins with a second. A sample is heard when it has left the jitter buffer, which is what the
// track's frames are stamped with, and the sound card's buffer, which the browser reports. offsets has for each beep how many s
// after the connection it came, and how many ms after its picture; negative: before.
const lipSync = testsrcMark + `
(async () => {
  window.offsets = [];
  const within = async (get) => {
    for (let v; ; await new Promise((r) => setTimeout(r, 10))) if (v = get()) return v;
  };
  const {video, connection} = await within(() => {
    const element = document.querySelector("gantry-player");
    return element?.player?.connection && element.player;
  });
  await within(() => connection.connectionState === "connected");
  const begun = performance.now();
  const canvas = new OffscreenCanvas(320, 180), g = canvas.getContext("2d", {willReadFrequently: true});
  const shown = [];
  const onFrame = (_, {expectedDisplayTime: at}) => {
    video.requestVideoFrameCallback(onFrame);
    g.drawImage(video, 0, 0, canvas.width, canvas.height);
    const mark = gantryDecodeMark(g.getImageData(0, 0, canvas.width, canvas.height));
    if (mark) shown.push({at, delay: performance.timeOrigin + at - mark.time});
    if (shown.length > 60) shown.shift();
  };
  video.requestVideoFrameCallback(onFrame);
  const compare = async (left) => {
    const all = [...(await connection.getStats()).values()].find((s) => s.type === "media-playout");
    const heard = left + 1000 * (all?.totalPlayoutDelay / all?.totalSamplesCount || 0);
    await new Promise((r) => setTimeout(r, 400));
    const near = shown.filter(({at}) => Math.abs(at - heard) < 300).map(({delay}) => delay).sort((a, b) => a - b);
    if (near.length < 3) return;
    const drawn = performance.timeOrigin + heard - near[near.length >> 1]; // the picture that is shown with the beep
    offsets.push([(heard - begun) / 1000, (drawn + 500) % 1000 - 500]);
  };
  const track = await within(() => video.srcObject?.getAudioTracks()[0]);
  const reader = new MediaStreamTrackProcessor({track: track.clone()}).readable.getReader();
  const level = 0.25; // above the tone's peak, below the beep's
  for (let last = 0; ;) {
    const {value: sound, done} = await reader.read();
    if (done) break;
    const wave = new Float32Array(sound.numberOfFrames), at = sound.timestamp / 1000, rate = sound.sampleRate / 1000;
    sound.copyTo(wave, {planeIndex: 0, format: "f32-planar"});
    sound.close();
    const first = wave.findIndex((v) => Math.abs(v) > level);
    if (first < 0) continue;
    if (at - last > 500) compare(at + first / rate);
    last = at;
  }
})();
true`

const (
	inStep   = 3  // s after the connection, from which on sound and picture are together
	together = 60 // ms that one may come before the other: nobody notices
	beeps    = 5  // that are looked at: where another program holds the browser up, one or two are off until it has mended that
)

// What belongs together is seen and heard together at the end of the whole path, from soon after the join on: gantryd's test source,
// both encoders, WHIP, the relay, WHEP, and Chromium's jitter buffers.
func TestSoundComesWithItsPicture(t *testing.T) {
	_, viewer := startDemo(t)
	p := chromium.Launch(t, chromium.Options{})
	undisturbed(t, func() error {
		p.Navigate(viewer)
		chromium.Eval[any](p, strings.Replace(lipSync, testsrcMark, testsrc.DecodeJS, 1))
		p.Wait(30*time.Second, fmt.Sprintf("offsets.filter(([at]) => at > %d).length >= %d", inStep, beeps), "offsets")
		all := chromium.Eval[[][2]float64](p, "offsets")
		var settled []float64
		for _, o := range all {
			if o[0] > inStep {
				settled = append(settled, o[1])
			}
		}
		slices.Sort(settled)
		median := settled[len(settled)/2]
		t.Logf("the sound comes %.0f ms after its picture; s after the connection, and ms, of each beep: %.1f", median, all)
		if median < -together || median > together {
			return fmt.Errorf("the sound comes %.0f ms after its picture, %d s after the join", median, inStep)
		}
		return nil
	})
}
