package e2e

import (
	"fmt"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
)

// hlsPlayer plays Low-Latency HLS by Media Source Extensions, as JavaScript players do: it waits for each new part by a blocking
// reload (RFC 8216bis §6.2.5.2) and appends it. ages holds how old the end of each new part is when it has come, in ms.
const hlsPlayer = `
window.playHLS = async (master) => {
  const text = async (url) => { const r = await fetch(url); if (!r.ok) throw new Error(url + " " + r.status); return r.text(); };
  const base = new URL(master, location.href), index = (await text(base)).split("\n");
  const codecs = index.find((l) => l.includes("CODECS=")).match(/CODECS="([^"]+)"/)[1].split(",");
  const uri = (line) => line.match(/URI="([^"]+)"/)[1];
  const lists = [{url: index.find((l) => l && !l.startsWith("#")), type: "video/mp4", codec: codecs.find((c) => c.startsWith("avc1"))},
    {url: uri(index.find((l) => l.startsWith("#EXT-X-MEDIA:TYPE=AUDIO"))), type: "audio/mp4", codec: codecs.find((c) => c.startsWith("mp4a"))}];
  const video = document.createElement("video"), source = new MediaSource();
  Object.assign(video, {muted: true, src: URL.createObjectURL(source)});
  document.body.replaceChildren(video);
  await new Promise((resolve) => source.addEventListener("sourceopen", resolve, {once: true}));
  window.hls = {ages: [], error: "", video};
  const follow = async ({url, type, codec}, ages) => {
    const at = new URL(url, base), buffer = source.addSourceBuffer(type + '; codecs="' + codec + '"');
    const append = async (part) => {
      const data = await (await fetch(new URL(part, at))).arrayBuffer();
      buffer.appendBuffer(data);
      await new Promise((resolve) => buffer.addEventListener("updateend", resolve, {once: true}));
    };
    let list = (await text(at)).split("\n"), map = "", begun = false;
    const had = new Set();
    for (;;) {
      const init = uri(list.find((l) => l.startsWith("#EXT-X-MAP:")));
      if (init !== map) await append(map = init);
      let segment = Number(list.find((l) => l.startsWith("#EXT-X-MEDIA-SEQUENCE:")).split(":")[1]), part = 0, edge = 0;
      for (const l of list) {
        if (l.startsWith("#EXT-X-PROGRAM-DATE-TIME:")) edge = Date.parse(l.slice(25));
        if (l && !l.startsWith("#")) { segment++; part = 0; }
        if (!l.startsWith("#EXT-X-PART:")) continue;
        edge += 1000 * Number(l.match(/DURATION=([\d.]+)/)[1]);
        part++;
        const name = uri(l);
        if (had.has(name)) continue;
        had.add(name);
        if (!begun && !l.includes("INDEPENDENT=YES") && type === "video/mp4") continue;
        begun = true;
        await append(name);
        if (ages) ages.push(Date.now() - edge);
      }
      const next = new URL(at);
      next.searchParams.set("_HLS_msn", segment);
      next.searchParams.set("_HLS_part", part);
      list = (await text(next)).split("\n");
    }
  };
  lists.forEach((l, i) => follow(l, i === 0 ? hls.ages : null).catch((e) => { hls.error += l.type + ": " + e + "; "; }));
  while (!video.buffered.length) await new Promise((resolve) => setTimeout(resolve, 20));
  video.currentTime = video.buffered.start(0);
  await video.play();
};
true`

// Chromium plays Low-Latency HLS with picture and sound; each part is there soon after its last picture was published.
func TestChromiumPlaysHLS(t *testing.T) {
	base := startRelayAt(t, testkit.Bin(t, "gantry-relay"), "--srt", ":0", "--rtmp", "")
	publishFFmpeg(t, "mpegts", fmt.Sprintf("srt://127.0.0.1:%d?streamid=cam", ports(t, base).SRT))
	page := chromium.Open(t, chromium.Options{}, base+"/play/cam")
	page.Wait(30*time.Second, player+`?.state === "playing"`, player+".status") // the stream is live
	chromium.Eval[bool](page, hlsPlayer)
	chromium.Eval[bool](page, `(playHLS("/hls/cam/index.m3u8").catch((e) => { window.hls = {error: String(e)}; }), true)`)
	page.Wait(40*time.Second, `window.hls?.error || window.hls?.video?.currentTime - window.hls?.video?.buffered.start(0) > 5 && hls.video.webkitAudioDecodedByteCount > 10000`,
		`({...window.hls, time: window.hls?.video?.currentTime, sound: window.hls?.video?.webkitAudioDecodedByteCount})`)
	if text := chromium.Eval[string](page, "hls.error"); text != "" {
		t.Error(text)
	}
	if n := chromium.Eval[int](page, "hls.video.getVideoPlaybackQuality().totalVideoFrames"); n < 100 {
		t.Errorf("%d pictures in 5 s", n)
	}
	type age struct{ Median, P95, Behind float64 }
	got := chromium.Eval[age](page, `(() => { const a = hls.ages.slice(10).sort((x, y) => x - y); const v = hls.video;
		return {Median: a[a.length >> 1], P95: a[Math.floor(a.length * 0.95)], Behind: 1000 * (v.buffered.end(v.buffered.length - 1) - v.currentTime)}; })()`)
	t.Logf("the end of a part is %.0f ms old (p95 %.0f ms) when it has come; the picture shown is %.0f ms behind that", got.Median, got.P95, got.Behind)
	if !(got.Median > -200 && got.Median < 2000) {
		t.Errorf("%+v", got)
	}
}
