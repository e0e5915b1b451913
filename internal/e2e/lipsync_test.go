package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/device/testsrc"
	"gantry/internal/testkit/chromium"
)

// Sound that comes more than this before or after its picture is noticed (EBU R37, at the end of the chain).
const (
	soundEarly = 40 // ms
	soundLate  = 60 // ms
)

// lipSync compares when pictures are shown with when the beeps are heard, both on the clock of performance.now: the mark says when
// a picture was drawn, and a beep begins with a second. offsets tells how many ms each beep came after its picture; negative: before.
const lipSync = testsrcMark + `
(() => {
  const video = ` + player + `.video;
  const audio = new AudioContext({sampleRate: 48000, latencyHint: "interactive"});
  const analyser = new AnalyserNode(audio, {fftSize: 8192});
  audio.createMediaStreamSource(video.srcObject).connect(analyser);
  const wave = new Float32Array(analyser.fftSize);
  const canvas = new OffscreenCanvas(320, 180), g = canvas.getContext("2d", {willReadFrequently: true});
  const shown = [];
  window.offsets = [];
  const onFrame = (_, {expectedDisplayTime: at}) => {
    video.requestVideoFrameCallback(onFrame);
    g.drawImage(video, 0, 0, canvas.width, canvas.height);
    const mark = gantryDecodeMark(g.getImageData(0, 0, canvas.width, canvas.height));
    if (mark) shown.push({at, delay: performance.timeOrigin + at - mark.time});
    if (shown.length > 30) shown.shift();
  };
  video.requestVideoFrameCallback(onFrame);
  const level = 0.25; // above the tone's peak, below the beep's
  let last = 0;
  setInterval(() => {
    const now = audio.currentTime, played = audio.getOutputTimestamp();
    analyser.getFloatTimeDomainData(wave); // what came until now
    const first = wave.findIndex((v) => Math.abs(v) > level);
    if (first < 480 || wave.length - first < 480) return; // its beginning is not in sight, or no more than that
    const heard = played.performanceTime + 1000 * (now - (wave.length - first) / 48000 - played.contextTime);
    const near = shown.filter(({at}) => Math.abs(at - heard) < 300).map(({delay}) => delay).sort((a, b) => a - b);
    if (heard - last < 500 || near.length < 3) return;
    const drawn = performance.timeOrigin + heard - near[near.length >> 1]; // the picture that is shown with the beep
    if (last > 0) offsets.push((drawn + 500) % 1000 - 500); // the first beep finds the context's own buffer still too full
    last = heard;
  }, 20);
})();
true`

// inStep is how long Chromium may take to bring sound and picture together: it shows pictures at once, the sound begins with a
// jitter buffer and the sound card's, and by the sender reports it then holds the pictures back, some 20 ms each second.
const inStep = 60 * time.Second

// What belongs together is seen and heard together at the end of the whole path: gantryd's test source, both encoders, WHIP, the
// relay, WHEP, and Chromium's jitter buffers.
func TestSoundComesWithItsPicture(t *testing.T) {
	t.Parallel() // it waits most of the time
	_, viewer := startDemo(t)
	p := openPlayer(t, viewer)
	chromium.Eval[bool](p, strings.Replace(lipSync, testsrcMark, testsrc.DecodeJS, 1))
	const few = 8 // beeps, over which the offset must stand still but for one to each side
	var all []float64
	for deadline := time.Now().Add(inStep); ; {
		p.Wait(10*time.Second, "offsets.length > 0", "")
		all = append(all, chromium.Eval[[]float64](p, "offsets.splice(0)")...)
		if len(all) < few {
			continue
		}
		newest := slices.Sorted(slices.Values(all[len(all)-few:]))
		median := newest[few/2]
		if median >= -soundEarly && median <= soundLate && newest[few-2]-newest[1] < 40 {
			t.Logf("the sound comes %.0f ms after its picture; each beep so far: %.0f ms", median, all)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sound comes %.0f ms after its picture, want -%d to %d; each beep: %.0f", median, soundEarly, soundLate, all)
		}
	}
}
