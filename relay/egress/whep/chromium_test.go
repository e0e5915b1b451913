package whep_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
)

const playerPage = `<!doctype html><video id=v muted autoplay playsinline></video><script>
window.shown = [];
window.play = async (url) => {
	const pc = window.pc = new RTCPeerConnection();
	pc.addTransceiver("video", {direction: "recvonly"});
	pc.addTransceiver("audio", {direction: "recvonly"});
	for (const t of pc.getTransceivers()) {
		const all = t.getHeaderExtensionsToNegotiate();
		for (const x of all) if (x.uri.endsWith("abs-capture-time")) x.direction = "sendrecv";
		t.setHeaderExtensionsToNegotiate(all);
	}
	const stream = new MediaStream();
	pc.ontrack = e => { stream.addTrack(e.track); v.srcObject = stream; };
	const frame = (now, m) => { 
		const [source] = pc.getReceivers()[0].getSynchronizationSources();
		shown.push({now: performance.now(), m, lag: source && source.captureTimestamp ? Date.now() + 2208988800000 - source.captureTimestamp : null});
		 v.requestVideoFrameCallback(frame); };
	v.requestVideoFrameCallback(frame);
	await pc.setLocalDescription();
	window.began = performance.now();
	const r = await fetch(url, {method: "POST", headers: {"Content-Type": "application/sdp"}, body: pc.localDescription.sdp});
	if (r.status != 201) throw new Error(r.status + " " + await r.text());
	await pc.setRemoteDescription({type: "answer", sdp: await r.text()});
};
// How long after its capture a picture was shown: the median of the last ones, in milliseconds.
window.behind = () => { const s = shown.slice(-20).filter(s => s.lag !== null).map(s => s.lag).sort((a, b) => a - b); return s.length ? s[s.length >> 1] : -1; };
</script>`

// A real browser that joins late in a group of pictures, of a publisher that makes no key frame when asked, shows a picture at
// once and is live soon: it does not take the pace of the catch-up for the stream's.
func TestChromiumCatchesUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", func(p *publisher) { p.Obeys = false })
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(playerPage))
	}))
	defer page.Close()
	tab := chromium.Open(t, chromium.Options{}, page.URL)
	testkit.Eventually(t, 5*time.Second, "the key frame is old", func() bool {
		at := p.now() % (2 * time.Second)
		return at > 1600*time.Millisecond && at < 1800*time.Millisecond
	})
	chromium.Eval[any](tab, `play("`+b.url+`/whep/demo")`)
	tab.Wait(10*time.Second, "shown.length > 0", "pc.connectionState")
	lag := chromium.Eval[string](tab, "new Promise(r => setTimeout(() => r(shown.map(s => Math.round(s.lag)).join(' ')), 1000))")
	t.Logf("pictures of the first second were shown after ms: %s", lag)
	first := chromium.Eval[float64](tab, "shown[0].now - began")
	tab.Wait(20*time.Second, "performance.now() - began > 3500 && shown.length > 60", "shown.length + ' ' + pc.connectionState")
	behind := chromium.Eval[float64](tab, "behind()")
	t.Logf("first picture after %.0f ms, %.0f ms behind its capture after 3.5 s", first, behind)
	t.Log(chromium.Eval[string](tab, `pc.getStats().then(r => { for (const s of r.values()) if (s.type == "inbound-rtp" && s.kind == "video") return JSON.stringify({
		delay: s.jitterBufferDelay / s.jitterBufferEmittedCount, target: s.jitterBufferTargetDelay / s.jitterBufferEmittedCount, least: s.jitterBufferMinimumDelay / s.jitterBufferEmittedCount,
		received: s.framesReceived, decoded: s.framesDecoded, dropped: s.framesDropped, keys: s.keyFramesDecoded, lost: s.packetsLost, nack: s.nackCount, pli: s.pliCount, rtx: s.retransmittedPacketsReceived}); })`))
	if behind > 500 || behind < -100 { // on a busy machine the browser misjudges the way of the reports that tell it the time
		t.Errorf("the picture is %.0f ms behind", behind)
	}
}
