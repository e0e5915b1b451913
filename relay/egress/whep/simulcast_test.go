package whep_test

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/media/h264"
)

// simulcast publishes two layers over WHIP, each by its own RTP clock, until the test ends. It returns how many key frames were
// asked of each layer. A layer makes them when asked, and not otherwise for two seconds.
func (a *audience) simulcast() (asked [2]*atomic.Int64) {
	t := a.t
	units := a.picture.Units
	var m webrtc.MediaEngine
	capability := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", RTCPFeedback: []webrtc.RTCPFeedback{{Type: "nack", Parameter: "pli"}}}
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: capability, PayloadType: 102}, webrtc.RTPCodecTypeVideo); err != nil {
		t.Fatal(err)
	}
	for _, uri := range []string{"urn:ietf:params:rtp-hdrext:sdes:mid", "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"} {
		if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo); err != nil {
			t.Fatal(err)
		}
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(e)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	var tracks [2]*webrtc.TrackLocalStaticRTP
	var sender *webrtc.RTPSender
	for i, rid := range []string{"h", "l"} {
		if tracks[i], err = webrtc.NewTrackLocalStaticRTP(capability, "video", "box", webrtc.WithRTPStreamID(rid)); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			err = sender.AddEncoding(tracks[i])
		} else {
			var transceiver *webrtc.RTPTransceiver
			transceiver, err = pc.AddTransceiverFromTrack(tracks[i], webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
			sender = transceiver.Sender()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	status, _, answer := a.do(t, http.MethodPost, a.whip, "application/sdp", pc.LocalDescription().SDP, nil)
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "the publisher is connected", func() bool { return pc.ConnectionState() == webrtc.PeerConnectionStateConnected })
	var mid, rid uint8
	for _, x := range sender.GetParameters().HeaderExtensions {
		switch {
		case strings.HasSuffix(x.URI, "sdes:mid"):
			mid = uint8(x.ID)
		case strings.HasSuffix(x.URI, "sdes:rtp-stream-id"):
			rid = uint8(x.ID)
		}
	}
	stop := make(chan struct{})
	var ended []chan struct{}
	for i, track := range tracks {
		asked[i] = &atomic.Int64{}
		var key atomic.Bool
		done := make(chan struct{})
		ended = append(ended, done)
		go func() { // ends with the peer connection
			for {
				packets, _, err := sender.ReadSimulcastRTCP(track.RID())
				if err != nil {
					return
				}
				for _, p := range packets {
					if _, ok := p.(*rtcp.PictureLossIndication); ok {
						asked[i].Add(1)
						key.Store(true)
					}
				}
			}
		}()
		go func() {
			defer close(done)
			tick := time.NewTicker(time.Second / 30)
			defer tick.Stop()
			pack := &codecs.H264Payloader{}
			seq, base := uint16(rand.Uint32()), rand.Uint32()
			for frame, n := 0, uint32(0); ; frame, n = frame+1, n+1 {
				if key.Swap(false) {
					frame = 0
				}
				au := append([]byte(nil), units[frame%len(units)]...)
				for range 4 - 3*i {
					au = h264.Append(au, append([]byte{6, 200 + byte(1-i)}, bytes.Repeat([]byte{0xff}, 1000)...))
				}
				payloads := pack.Payload(1150, au)
				for j, payload := range payloads {
					seq++
					p := &rtp.Packet{Header: rtp.Header{Version: 2, Marker: j == len(payloads)-1, SequenceNumber: seq, Timestamp: base + n*3000}, Payload: payload}
					_ = p.SetExtension(mid, []byte("0"))
					_ = p.SetExtension(rid, []byte(track.RID()))
					_ = track.WriteRTP(p)
				}
				select {
				case <-stop:
					return
				case <-tick.C:
				}
			}
		}()
	}
	t.Cleanup(func() {
		close(stop)
		for _, done := range ended {
			<-done
		}
		_ = pc.GracefulClose()
	})
	return asked
}

// A simulcast comes over WHIP, and each viewer has the layer that it chose: one sequence and one timeline through each change.
func TestSimulcastFromWHIP(t *testing.T) {
	t.Parallel()
	a := newAudience(t)
	asked := a.simulcast()
	testkit.Eventually(t, 10*time.Second, "both layers", func() bool {
		s := a.hub.Streams()
		return len(s) == 1 && s[0].Live && len(s[0].Publishers[0].Tracks) == 2 && s[0].Publishers[0].Tracks[0].Frames > 30 && s[0].Publishers[0].Tracks[1].KeyFrames > 0
	})
	c := a.play(t, "demo", clientOptions{videoOnly: true})
	other := a.play(t, "demo", clientOptions{videoOnly: true})
	on := func(layer int) {
		t.Helper()
		testkit.Eventually(t, 20*time.Second, "the layer", func() bool { return c.layer() == layer })
	}
	choose := func(body string) {
		t.Helper()
		if status, _, text := a.do(t, http.MethodPost, c.location+"/layer", "application/json", body, nil); status != http.StatusOK {
			t.Fatalf("%s: %d %s", body, status, text)
		}
	}
	on(1)
	testkit.Eventually(t, 5*time.Second, "the layers are known", func() bool {
		status, _, _ := a.do(t, http.MethodPost, c.location+"/layer", "application/json", `{"rid":"h"}`, nil)
		return status == http.StatusOK
	})
	on(1)
	// Both have one size here, so which is the larger shows only when their bit rates have been measured.
	testkit.Eventually(t, 20*time.Second, "the other viewer has the large layer", func() bool { return other.layer() == 1 })
	before := c.unbroken()
	alone := 0
	for range 3 {
		high, low := asked[0].Load(), asked[1].Load()
		choose(`{"rid":"l"}`)
		on(0)
		if asked[1].Load() == low {
			t.Error("no key frame was asked of the small layer")
		}
		if asked[0].Load() == high {
			alone++
		}
		choose(`{}`)
		on(1)
	}
	// On a busy machine a viewer may be moved for its round trip time besides.
	if n := c.unbroken() - before; n < 6 {
		t.Errorf("%d changes of layer", n)
	}
	other.unbroken()
	if alone == 0 {
		t.Error("each time a key frame was asked of the large layer too")
	}
}
