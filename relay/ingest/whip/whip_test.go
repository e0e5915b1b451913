package whip

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/rtc"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
)

// A publisher's pictures and sound reach a subscriber as they were, with times, boundaries and key frames marked.
func TestPublish(t *testing.T) {
	t.Parallel()
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
			if step := u.pts - v.units[0][i-1].pts; (step - time.Second/30).Abs() > alignStep+time.Microsecond {
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
	t.Parallel()
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

	got, err := (&offer{sections: []*section{{kind: "video", mid: "0"}}}).answer(rtc.Parameters{Candidates: []string{
		"candidate:1 1 tcp 1671430143 127.0.0.1 9 typ host tcptype passive", "candidate:2 1 udp 2130706431 127.0.0.1 9 typ host"}}, false)
	if udp, tcp, end := strings.Index(got, " udp "), strings.Index(got, " tcp "), strings.Index(got, "a=end-of"); err != nil || udp < 0 || udp > tcp || tcp > end {
		t.Errorf("candidates in the answer:\n%s", got)
	}
}

// closed waits until the peer's connection has ended.
func (p *peer) closed(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, "the publisher's connection is closed", func() bool {
		s := p.pc.ConnectionState()
		return s == webrtc.PeerConnectionStateClosed || s == webrtc.PeerConnectionStateDisconnected || s == webrtc.PeerConnectionStateFailed
	})
}

// A publisher that comes under the same name takes over at its first key frame, without a break for who watches; the one
// before is told to go.
func TestReplaced(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	units := record(t, "320x180", plain)
	first := newPeer(t)
	first.addVideo()
	first.publish(b, "/whip/s", nil)
	first.playing(units)
	b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 5 })
	sub, err := b.hub.Subscribe("s", relay.Want{Packing: media.RTP})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()

	second := newPeer(t)
	second.addVideo()
	second.publish(b, "/whip/s", nil)
	second.playing(units)
	first.closed(t)
	testkit.Eventually(t, 5*time.Second, "one session is left", func() bool { return b.server.Counters().Sessions.Load() == 1 })
	if r := do(t, http.MethodDelete, b.web.URL+first.location, ""); r.StatusCode != http.StatusNotFound {
		t.Errorf("DELETE of the replaced session: %d", r.StatusCode)
	}
	b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 10 })
	var last time.Duration
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	packets, err := sub.Pull(ctx, nil)
	if err != nil {
		t.Fatalf("a viewer was disconnected: %v", err)
	}
	for _, p := range packets {
		if p.PTS < last {
			t.Errorf("PTS falls from %v to %v", last, p.PTS)
		}
		last = p.PTS
	}
}

// A publisher that goes without a word, and comes back.
func TestRestarted(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	units := record(t, "320x180", plain)
	for range 2 {
		p := newPeer(t)
		p.addVideo()
		p.publish(b, "/whip/s", nil)
		stop := p.playing(units)
		b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 5 })
		stop()
		p.close()
		testkit.Eventually(t, 5*time.Second, "the session is gone", func() bool { return b.server.Counters().Sessions.Load() == 0 })
	}
}

// What a viewer asks for arrives at the publisher.
func TestFeedback(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	p := newPeer(t)
	p.addVideo()
	p.publish(b, "/whip/s", nil)
	p.playing(record(t, "320x180", plain))
	b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 20 })
	sub, err := b.hub.Subscribe("s", relay.Want{Packing: media.RTP})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for len(p.plis) > 0 {
		<-p.plis
	}
	asked := time.Now()
	sub.Feedback(media.Feedback{KeyFrame: true})
	select {
	case <-p.plis:
		if d := time.Since(asked); d > 300*time.Millisecond {
			t.Errorf("after %v", d)
		}
	case <-time.After(5 * time.Second):
		t.Error("the publisher was not asked")
	}
}

// The Hub's end is the sessions' end.
func TestHubClosed(t *testing.T) {
	t.Parallel()
	b := start(t, Access{})
	p := newPeer(t)
	p.addVideo()
	p.publish(b, "/whip/s", nil)
	p.playing(record(t, "320x180", plain))
	b.watch(t, "s", func(v *viewer) bool { return len(v.units[0]) > 5 })
	_ = b.hub.Close()
	p.closed(t)
	testkit.Eventually(t, 5*time.Second, "the session is gone", func() bool { return b.server.Counters().Sessions.Load() == 0 })
}
