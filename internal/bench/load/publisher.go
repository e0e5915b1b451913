package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
)

// Silence is the sound that goes with each picture: one Opus packet of 20 ms.
var Silence = [][]byte{{0xfc, 0xff, 0xfe}}

// A Publisher publishes a Picture and silence over WHIP in real time.
type Publisher struct {
	picture  *Picture
	obeys    bool
	pc       *webrtc.PeerConnection
	video    *webrtc.TrackLocalStaticRTP
	audio    *webrtc.TrackLocalStaticRTP
	location string
	key      atomic.Bool
	Asked    atomic.Int64 // key frames that were asked of it
	stop     chan struct{}
	once     sync.Once // closes stop
	stopped  sync.WaitGroup
}

// Publish begins to publish at a WHIP URL. With obeys, it makes a key frame when asked.
func Publish(ctx context.Context, picture *Picture, whip string, obeys bool) (*Publisher, error) {
	p := &Publisher{picture: picture, obeys: obeys, stop: make(chan struct{})}
	var m webrtc.MediaEngine
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	h264Codec := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000, RTCPFeedback: feedback,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}
	opus := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	if err := errors.Join(m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: h264Codec, PayloadType: 102}, webrtc.RTPCodecTypeVideo),
		m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: opus, PayloadType: 111}, webrtc.RTPCodecTypeAudio)); err != nil {
		return nil, err
	}
	var registry interceptor.Registry
	if err := errors.Join(webrtc.ConfigureNack(&m, &registry), webrtc.ConfigureRTCPReports(&registry)); err != nil {
		return nil, err
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(e), webrtc.WithInterceptorRegistry(&registry)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	p.pc = pc
	if err := p.connect(ctx, whip, h264Codec, opus); err != nil {
		_ = pc.GracefulClose()
		return nil, fmt.Errorf("publish: %w", err)
	}
	p.stopped.Go(p.run)
	return p, nil
}

func (p *Publisher) connect(ctx context.Context, whip string, h264Codec, opus webrtc.RTPCodecCapability) error {
	var err error
	if p.video, err = webrtc.NewTrackLocalStaticRTP(h264Codec, "video", "bench"); err != nil {
		return err
	}
	if p.audio, err = webrtc.NewTrackLocalStaticRTP(opus, "audio", "bench"); err != nil {
		return err
	}
	for _, track := range []webrtc.TrackLocal{p.video, p.audio} {
		t, err := p.pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return err
		}
		p.stopped.Go(func() { p.listen(t.Sender()) })
	}
	connected := make(chan struct{})
	var once sync.Once
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(connected) })
		}
	})
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		return err
	}
	<-gathered
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, whip, strings.NewReader(p.pc.LocalDescription().SDP))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/sdp")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("POST: %s: %s", resp.Status, body)
	}
	if base, err := url.Parse(whip); err == nil {
		if l, err := base.Parse(resp.Header.Get("Location")); err == nil {
			p.location = l.String()
		}
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(body)}); err != nil {
		return err
	}
	select {
	case <-connected:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Publisher) listen(s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, q := range packets {
			switch q.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				p.Asked.Add(1)
				p.key.Store(true)
			}
		}
	}
}

func (p *Publisher) run() {
	ticker := time.NewTicker(time.Second / time.Duration(p.picture.Rate))
	defer ticker.Stop()
	const mtu = 1200 - 12
	pack := &codecs.H264Payloader{}
	var seq, soundSeq uint16
	frame, count := 0, 0
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		if p.key.Swap(false) && p.obeys {
			frame = 0
		}
		unit := Stamped(p.picture.Units[frame%len(p.picture.Units)], time.Now())
		payloads := pack.Payload(mtu, unit)
		for i, payload := range payloads {
			seq++
			_ = p.video.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, Marker: i == len(payloads)-1, SequenceNumber: seq,
				Timestamp: uint32(count * 90000 / p.picture.Rate)}, Payload: payload})
		}
		// A packet for a picture, where three for two would be exact.
		soundSeq++
		_ = p.audio.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: soundSeq, Timestamp: uint32(count * 48000 / p.picture.Rate)},
			Payload: Silence[0]})
		frame++
		count++
	}
}

// Close ends the session by DELETE.
func (p *Publisher) Close() {
	p.Pause()
	if p.location != "" {
		if r, err := http.NewRequest(http.MethodDelete, p.location, nil); err == nil {
			if resp, err := http.DefaultClient.Do(r); err == nil {
				_ = resp.Body.Close()
			}
		}
	}
	_ = p.pc.GracefulClose()
	p.stopped.Wait()
}
