package whep_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
)

// coded returns two seconds of the test picture, 30 a second, in which only the first is a key frame.
func coded(codec media.Codec, size string) (units [][]byte, err error) {
	args := []string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=30:duration=2:size=" + size, "-pix_fmt", "yuv420p", "-threads", "1"}
	x := "aud=1:keyint=60:scenecut=0:repeat-headers=1:log-level=error"
	switch codec {
	case media.AV1:
		args = append(args, "-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-b:v", "400k", "-g", "60", "-f", "ivf", "-")
	case media.H265:
		args = append(args, "-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "400k", "-x265-params", x, "-f", "hevc", "-")
	default:
		args = append(args, "-c:v", "libx264", "-profile:v", "baseline", "-preset", "veryfast", "-tune", "zerolatency", "-b:v", "300k", "-x264-params", x, "-f", "h264", "-")
	}
	out, err := exec.Command("ffmpeg", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("ffmpeg: %w", err)
	}
	if codec == media.AV1 { // IVF: a header of 32 bytes, then each temporal unit behind its size and time
		for rest := out[32:]; len(rest) > 12; {
			n := 12 + int(binary.LittleEndian.Uint32(rest))
			units, rest = append(units, rest[12:n:n]), rest[n:]
		}
		return units, nil
	}
	for n := range h264.NALUs(out) {
		if codec == media.H264 && h264.TypeOf(n) == h264.AUD || codec == media.H265 && n[0]>>1&0x3f == 35 {
			units = append(units, nil)
			continue
		}
		units[len(units)-1] = h264.Append(units[len(units)-1], n)
	}
	return units, nil
}

// rendered is one picture in three codecs, and in two sizes of H.264, as feeds bring it.
var rendered = []media.Track{
	{Codec: media.H264, ClockRate: 90000, RID: "l", Profile: "42c00d", Width: 160, Height: 90},
	{Codec: media.H264, ClockRate: 90000, RID: "h", Profile: "42c00d", Width: 320, Height: 180},
	{Codec: media.H265, ClockRate: 90000, RID: "x", Width: 400, Height: 224},
	{Codec: media.AV1, ClockRate: 90000, RID: "a", Width: 480, Height: 270},
}

// render publishes it until the test ends, or the function that it returns is called. It makes no key frames but one in two seconds.
func render(t *testing.T, hub *relay.Hub, stream string, tracks []media.Track) (stop func()) {
	t.Helper()
	all := make([][][]byte, len(tracks))
	var made sync.WaitGroup
	for i, track := range tracks {
		made.Go(func() {
			units, err := coded(track.Codec, fmt.Sprintf("%dx%d", track.Width, track.Height))
			if err != nil || len(units) != 60 {
				t.Errorf("%d pictures of %v: %v", len(units), track.Codec, err)
			}
			all[i] = units
		})
	}
	made.Wait()
	if t.Failed() {
		t.FailNow()
	}
	pub, err := hub.Publish(stream, relay.Publisher{Tracks: tracks, Protocol: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		for n := 0; ; n++ {
			pts := time.Duration(n) * time.Second / 30
			for i := range tracks {
				pub.Write(&media.Packet{Track: uint8(i), PTS: pts, DTS: pts, Start: true, End: true, Key: n%60 == 0, Data: all[i][n%60]})
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		_ = pub.Close()
	})
	t.Cleanup(stop)
	return stop
}

// codecPage offers the codecs that it is told, or all; shown counts pictures, and inbound tells what comes.
const codecPage = `<!doctype html><video id=v muted autoplay playsinline></video><script>
window.play = async (url, ...codecs) => {
	window.pc?.close();
	v.srcObject = null;
	const pc = window.pc = new RTCPeerConnection(), t = pc.addTransceiver("video", {direction: "recvonly"});
	if (codecs.length) t.setCodecPreferences(RTCRtpReceiver.getCapabilities("video").codecs.filter(c => c.mimeType == "video/rtx" || codecs.includes(c.mimeType.slice(6))));
	pc.ontrack = e => { v.srcObject = new MediaStream([e.track]); };
	const first = new Promise(r => v.requestVideoFrameCallback(now => r(now)));
	await pc.setLocalDescription();
	const began = performance.now();
	const r = await fetch(url, {method: "POST", headers: {"Content-Type": "application/sdp"}, body: pc.localDescription.sdp});
	if (r.status != 201) throw new Error(r.status + " " + await r.text());
	window.session = new URL(r.headers.get("Location"), url).href;
	await pc.setRemoteDescription({type: "answer", sdp: await r.text()});
	return await first - began;
};
window.layer = async (rid) => (await fetch(session + "/layer", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({rid})})).status;
window.inbound = async () => {
	const all = await pc.getStats(), s = [...all.values()].find(s => s.type == "inbound-rtp" && s.kind == "video");
	return !s ? {shown: 0} : {codec: all.get(s.codecId)?.mimeType.slice(6), width: s.frameWidth, shown: s.framesDecoded, lost: s.packetsLost, dropped: s.framesDropped, pli: s.pliCount};
};
</script>`

// codecTab opens the page in a browser.
func codecTab(t *testing.T) *chromium.Page {
	t.Helper()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(codecPage))
	}))
	t.Cleanup(page.Close)
	return chromium.Open(t, chromium.Options{}, page.URL)
}

// One picture comes in AV1, H.265 and two sizes of H.264. Chromium decodes all but H.265, and is given AV1; where it offers H.264 alone
// it has that, and the size that it asks for. A Go client that has no AV1 is given H.265. Who joins has the group of pictures from its
// beginning, whatever the codec.
func TestRenditionsOfThreeCodecs(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	tab := codecTab(t)
	render(t, b.hub, "demo", rendered)
	testkit.Eventually(t, 10*time.Second, "it is live", func() bool { _, err := b.hub.Live("demo"); return err == nil })
	shows := func(codec string, width int) {
		t.Helper()
		before := chromium.Eval[struct{ Shown int }](tab, "inbound()").Shown
		tab.Wait(10*time.Second, fmt.Sprintf("inbound().then(s => s.codec == %q && s.width == %d && s.shown > %d)", codec, width, before+30), "inbound()")
	}
	for _, c := range []struct {
		offer, codec string
		width        int
	}{{"", "AV1", 480}, {`, "H264"`, "H264", 320}, {`, "AV1", "H264"`, "AV1", 480}} {
		took := chromium.Eval[float64](tab, fmt.Sprintf("play(%q%s)", b.url+"/whep/demo", c.offer))
		shows(c.codec, c.width)
		t.Logf("offers [%s]: first picture %.0f ms after the POST; %s", c.offer, took, chromium.Eval[json.RawMessage](tab, "inbound()"))
		if c.codec != "H264" {
			continue
		}
		for _, l := range []struct {
			rid   string
			width int
		}{{"l", 160}, {"h", 320}} {
			if status := chromium.Eval[int](tab, fmt.Sprintf("layer(%q)", l.rid)); status != http.StatusOK {
				t.Errorf("layer %s: %d", l.rid, status)
			}
			shows(c.codec, l.width)
		}
		if status := chromium.Eval[int](tab, `layer("a")`); status != http.StatusUnprocessableEntity {
			t.Errorf("a layer of a codec that was not offered: %d", status)
		}
	}
	if s := chromium.Eval[struct{ Lost, PLI int }](tab, "inbound()"); s.Lost != 0 {
		t.Errorf("%+v", s)
	}

	c := b.play(t, "demo", clientOptions{videoOnly: true, codecs: func(m *webrtc.MediaEngine) error {
		for i, mime := range []string{webrtc.MimeTypeH264, webrtc.MimeTypeH265} {
			fmtp := []string{"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", ""}[i]
			if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(96 + i), RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: mime, ClockRate: 90000, SDPFmtpLine: fmtp}}, webrtc.RTPCodecTypeVideo); err != nil {
				return err
			}
		}
		return nil
	}})
	testkit.Eventually(t, 10*time.Second, "pictures", func() bool { return len(c.packets()) > 30 })
	if p := c.packets()[0]; p.PayloadType != 97 {
		t.Errorf("who has H.264 and H.265 is sent payload type %d", p.PayloadType)
	}
}
