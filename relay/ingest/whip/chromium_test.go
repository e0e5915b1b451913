package whip

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/media"
	"gantry/relay"
)

const publisherPage = `<!doctype html><script type="module">
window.publish = async (codec, layers) => {
  const stream = await navigator.mediaDevices.getUserMedia({video: {width: 640, height: 360, frameRate: 30}, audio: true});
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: "max-bundle"});
  const init = {direction: "sendonly", streams: [stream]};
  if (layers) init.sendEncodings = [{rid: "h"}, {rid: "l", scaleResolutionDownBy: 2}];
  const video = pc.addTransceiver(stream.getVideoTracks()[0], init);
  pc.addTransceiver(stream.getAudioTracks()[0], {direction: "sendonly", streams: [stream]});
  if (codec) {
    const all = RTCRtpSender.getCapabilities("video").codecs;
    const wanted = all.filter(c => c.mimeType == "video/" + codec);
    if (!wanted.length) return "no " + codec;
    video.setCodecPreferences(wanted.concat(all.filter(c => c.mimeType == "video/rtx")));
  }
  await pc.setLocalDescription();
  const reply = await fetch("/whip/browser", {method: "POST", headers: {"Content-Type": "application/sdp"}, body: pc.localDescription.sdp});
  if (reply.status != 201) return reply.status + " " + await reply.text();
  window.answer = await reply.text();
  await pc.setRemoteDescription({type: "answer", sdp: window.answer});
  window.session = reply.headers.get("Location");
  return "";
};
window.restart = async () => {
  const pick = (sdp, key) => sdp.match(new RegExp("a=" + key + ":(\\S+)"))[1];
  pc.restartIce();
  await pc.setLocalDescription(await pc.createOffer());
  while (pc.iceGatheringState != "complete") await new Promise(r => pc.addEventListener("icegatheringstatechange", r, {once: true}));
  const mine = pc.localDescription.sdp, candidates = mine.split("\r\n").filter(l => l.startsWith("a=candidate:"));
  const body = ["a=ice-ufrag:" + pick(mine, "ice-ufrag"), "a=ice-pwd:" + pick(mine, "ice-pwd"), "m=video 9 RTP/AVP 0", "a=mid:0", ...candidates, ""].join("\r\n");
  const reply = await fetch(session, {method: "PATCH", headers: {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}, body});
  if (reply.status != 200 || !reply.headers.get("ETag")) return reply.status + " " + await reply.text();
  const theirs = await reply.text(), fresh = [...new Set(theirs.split("\r\n").filter(l => l.startsWith("a=candidate:")))];
  const sdp = answer.split("\r\n").filter(l => !l.startsWith("a=candidate:")).join("\r\n")
    .replace(/a=ice-ufrag:.*/g, "a=ice-ufrag:" + pick(theirs, "ice-ufrag")).replace(/a=ice-pwd:.*/g, "a=ice-pwd:" + pick(theirs, "ice-pwd"))
    .replace("a=recvonly\r\n", "a=recvonly\r\n" + fresh.join("\r\n") + "\r\n");
  await pc.setRemoteDescription({type: "answer", sdp});
  return "";
};
window.transport = async () => {
  for (const s of (await pc.getStats()).values()) if (s.type == "transport") return s.srtpCipher + " " + s.dtlsRole;
};
</script>`

// A browser publishes its camera and microphone in each codec that it has, and in layers.
func TestChromium(t *testing.T) {
	b := start(t, Access{})
	mux := http.NewServeMux()
	mux.Handle("/whip/", b.server)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, publisherPage)
	})
	web := httptest.NewServer(mux)
	defer web.Close()
	page := chromium.Launch(t, chromium.Options{FakeCamera: true})
	for _, c := range []struct {
		name, codec string
		layers      bool
		want        media.Codec
	}{
		{"its own choice", "", false, media.VP8},
		{"H264", "H264", false, media.H264},
		{"VP9", "VP9", false, media.VP9},
		{"AV1", "AV1", false, media.AV1},
		{"H264 in layers", "H264", true, media.H264},
	} {
		t.Run(c.name, func(t *testing.T) {
			page.Navigate(web.URL)
			if refusal := chromium.Eval[string](page, fmt.Sprintf("publish(%q, %v)", c.codec, c.layers)); refusal != "" {
				t.Fatal(refusal)
			}
			v := b.watch(t, "browser", func(v *viewer) bool { // each track has sent a while
				return !slices.ContainsFunc(v.units, func(units []unitSeen) bool { return len(units) < 10 })
			})
			tracks := slices.DeleteFunc(b.hub.Streams(), func(i relay.Info) bool { return i.Name != "browser" })[0].Publishers[0].Tracks
			for i, track := range tracks[:len(tracks)-1] {
				want := relay.TrackInfo{Codec: c.want.String(), Width: 640, Height: 360}
				if track.RID == "l" {
					want.Width, want.Height = 320, 180
				}
				if track.Codec != want.Codec || track.Width != want.Width || track.Height != want.Height || track.KeyFrames == 0 || track.Lost != 0 {
					t.Errorf("track %d is %+v", i, track)
				}
				if c.layers != (track.RID != "") {
					t.Errorf("track %d is layer %q", i, track.RID)
				}
			}
			if audio := v.tracks[len(v.tracks)-1]; audio.Codec != media.Opus || audio.Channels != 2 {
				t.Errorf("audio is %+v", audio)
			}
			if cipher := chromium.Eval[string](page, "transport()"); cipher != "SRTP_AEAD_AES_128_GCM client" {
				t.Errorf("transport: %s", cipher)
			}
			if c.codec == "H264" && !c.layers {
				if refusal := chromium.Eval[string](page, "restart()"); refusal != "" {
					t.Errorf("ICE restart: %s", refusal)
				}
				page.Wait(10*time.Second, `pc.iceConnectionState == "connected"`, "pc.iceConnectionState")
				count := b.server.Counters().Packets.Load()
				testkit.Eventually(t, 10*time.Second, "packets come after the ICE restart", func() bool { return b.server.Counters().Packets.Load() > count+50 })
			}
			if status := chromium.Eval[int](page, `fetch(session, {method: "DELETE"}).then(r => r.status)`); status != http.StatusOK {
				t.Errorf("DELETE: %d", status)
			}
		})
	}
}
