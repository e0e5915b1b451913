package whip

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/media"
)

func typeName(v any) string { return fmt.Sprintf("%T", v) }

// A publisher's pictures and sound reach a subscriber as they were, with times, boundaries and key frames marked.
func TestPublish(t *testing.T) {
	b := start(t, Access{})
	p := newPeer(t)
	p.addVideo()
	p.addAudio()
	p.publish(b, "/whip/live/demo", nil)
	units := record(t, "320x180", plain)
	p.playing(units)
	v := b.watch(t, "live/demo", func(v *viewer) bool { return len(v.units[0]) >= 60 && len(v.units[1]) >= 60 })

	want := media.Track{Codec: media.H264, Packing: media.RTP, ClockRate: 90000, Width: 320, Height: 180, Profile: "64000d"}
	if v.tracks[0] != want {
		t.Errorf("video is %+v, want %+v", v.tracks[0], want)
	}
	if want := (media.Track{Codec: media.Opus, Packing: media.RTP, ClockRate: 48000, Channels: 2}); v.tracks[1] != want {
		t.Errorf("audio is %+v, want %+v", v.tracks[1], want)
	}
	sent := map[[32]byte]int{}
	for i, au := range units {
		sent[picture(au)] = i
	}
	if !v.units[0][0].key {
		t.Error("does not begin at a key frame")
	}
	first := sent[picture(v.units[0][0].annexB(t))]
	for i, u := range v.units[0] {
		n, ok := sent[picture(u.annexB(t))]
		if !ok {
			t.Fatalf("unit %d was never sent so", i)
		}
		if n != (first+i)%len(units) {
			t.Fatalf("unit %d is %d of those sent, want %d", i, n, (first+i)%len(units))
		}
		if key := n%30 == 0; key != u.key {
			t.Errorf("unit %d: key %v, want %v", i, u.key, key)
		}
		if i > 0 {
			if step := u.pts - v.units[0][i-1].pts; step < 33333333 || step > 33333334 {
				t.Errorf("unit %d comes %v after the one before", i, step)
			}
		}
	}
	if skew := v.units[0][0].pts - v.units[1][0].pts; skew < -200*time.Millisecond || skew > 200*time.Millisecond {
		t.Errorf("video is %v from audio", skew)
	}
	if v.lost != 0 || b.server.Counters().Lost.Load() != 0 {
		t.Errorf("%d gaps on loopback", v.lost)
	}
	if r := do(t, http.MethodDelete, b.web.URL+p.location, ""); r.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %d", r.StatusCode)
	}
	testkit.Eventually(t, time.Second, "the session is gone", func() bool { return b.server.Counters().Sessions.Load() == 0 })
}

// ffmpeg's WHIP muxer wants to be the DTLS server, and looks only at the first candidate of the answer.
func TestPublisherIsDTLSServer(t *testing.T) {
	b := start(t, Access{})
	p := newPeer(t)
	p.addVideo()
	r := do(t, http.MethodPost, b.web.URL+"/whip/demo", strings.ReplaceAll(p.offer(), "a=setup:actpass", "a=setup:passive"), "Content-Type", "application/sdp")
	if r.StatusCode != http.StatusCreated {
		t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	if !strings.Contains(r.body, "a=setup:active\r\n") {
		t.Errorf("the answer to a passive publisher:\n%s", r.body)
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: r.body}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 15*time.Second, "connected", func() bool { return p.pc.ConnectionState() == webrtc.PeerConnectionStateConnected })

	answer := "a=candidate:1 1 tcp 1671430143 127.0.0.1 9 typ host tcptype passive\r\na=candidate:2 1 udp 2130706431 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
	got := finishAnswer(answer, nil)
	if udp, tcp, end := strings.Index(got, " udp "), strings.Index(got, " tcp "), strings.Index(got, "a=end-of"); udp < 0 || udp > tcp || tcp > end {
		t.Errorf("candidates in the answer:\n%s", got)
	}
}
