package whep_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/internal/testkit"
	"gantry/relay"
	"gantry/relay/egress/whep"
)

// A bench is a relay with one WHEP server, over HTTP on loopback.
type bench struct {
	hub    *relay.Hub
	port   *rtc.Port
	server *whep.Server
	url    string
}

func newBench(t testing.TB, configure func(*rtc.Config)) *bench {
	t.Helper()
	cfg := rtc.Config{Addr: "127.0.0.1:0"}
	if configure != nil {
		configure(&cfg)
	}
	return newBenchOn(t, func() (*rtc.Port, error) { return rtc.Listen(cfg, quiet) })
}

// newBenchOn makes a bench whose media goes by the port that listen opens.
func newBenchOn(t testing.TB, listen func() (*rtc.Port, error)) *bench {
	t.Helper()
	port, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{hub: relay.NewHub(relay.Default(), quiet), port: port}
	b.server = whep.New(whep.Default(), b.hub, port, whep.Access{Limits: whip.Limits{Rate: -1}}, quiet)
	web := httptest.NewServer(b.server)
	b.url = web.URL
	t.Cleanup(func() {
		web.Close()
		http.DefaultClient.CloseIdleConnections()
		if err := b.server.Close(); err != nil {
			t.Error(err)
		}
		_ = b.hub.Close()
		if err := port.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// A client is a WHEP player on pion/webrtc that keeps what it receives.
type client struct {
	t        testing.TB
	pc       *webrtc.PeerConnection
	location string
	etag     string

	mu      sync.Mutex
	video   []*rtp.Packet
	audio   []*rtp.Packet
	reports []*rtcp.SenderReport
	state   webrtc.PeerConnectionState
	gone    bool // the DTLS connection was closed
	arrived []time.Time
}

type clientOptions struct {
	setting     func(*webrtc.SettingEngine)
	codecs      func(*webrtc.MediaEngine) error
	videoOnly   bool
	interceptor bool                // pion's own NACK generator and reports
	offer       func(string) string // changes the offer that is sent, and the answer that is taken
	answer      func(string) string
}

func captureExtension() webrtc.RTPHeaderExtensionCapability {
	return webrtc.RTPHeaderExtensionCapability{URI: "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"}
}

// newClient makes a player without a session.
func newClient(t testing.TB, o clientOptions) *client {
	t.Helper()
	var m webrtc.MediaEngine
	register := m.RegisterDefaultCodecs
	if o.codecs != nil {
		register = func() error { return o.codecs(&m) }
	}
	if err := register(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if err := m.RegisterHeaderExtension(captureExtension(), kind); err != nil {
			t.Fatal(err)
		}
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if o.setting != nil {
		o.setting(&e)
	}
	var r interceptor.Registry
	if o.interceptor {
		if err := webrtc.RegisterDefaultInterceptors(&m, &r); err != nil {
			t.Fatal(err)
		}
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(e), webrtc.WithInterceptorRegistry(&r)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, pc: pc}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		c.mu.Lock()
		c.state = s
		c.mu.Unlock()
	})
	kinds := []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio}
	if o.videoOnly {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		go c.readReports(r)
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			c.mu.Lock()
			if track.Kind() == webrtc.RTPCodecTypeVideo {
				c.video = append(c.video, p)
				c.arrived = append(c.arrived, time.Now())
			} else {
				c.audio = append(c.audio, p)
			}
			c.mu.Unlock()
		}
	})
	return c
}

func (c *client) readReports(r *webrtc.RTPReceiver) {
	for {
		packets, _, err := r.ReadRTCP()
		if err != nil {
			return
		}
		c.mu.Lock()
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.SenderReport:
				c.reports = append(c.reports, p)
			case *rtcp.Goodbye:
				c.gone = true
			}
		}
		c.mu.Unlock()
	}
}

// offer returns the complete local offer.
func (c *client) offer(o *webrtc.OfferOptions) string {
	c.t.Helper()
	d, err := c.pc.CreateOffer(o)
	if err != nil {
		c.t.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(d); err != nil {
		c.t.Fatal(err)
	}
	<-done
	return c.pc.LocalDescription().SDP
}

// play opens a session for a stream and returns the player.
func (b *bench) play(t testing.TB, stream string, o clientOptions) *client {
	t.Helper()
	c := newClient(t, o)
	offer := c.offer(nil)
	if o.offer != nil {
		offer = o.offer(offer)
	}
	status, header, answer := b.do(t, http.MethodPost, b.url+"/whep/"+stream, "application/sdp", offer, nil)
	if status != http.StatusCreated {
		t.Fatalf("POST: %d %s", status, answer)
	}
	if o.answer != nil {
		answer = o.answer(answer)
	}
	c.location, c.etag = b.url+header.Get("Location"), header.Get("ETag")
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatalf("%v in\n%s", err, answer)
	}
	return c
}

// do makes a request; body "" is none.
func (b *bench) do(t testing.TB, method, url, contentType, body string, header http.Header) (int, http.Header, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// packets returns the video that has come.
func (c *client) packets() []*rtp.Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*rtp.Packet(nil), c.video...)
}

// pictures waits until n whole pictures have come, checks that they are what p published, begin with a key frame and have no
// gap, and returns the video packets.
func (c *client) pictures(n int, p *publisher) []*rtp.Packet {
	c.t.Helper()
	testkit.Eventually(c.t, 10*time.Second, "pictures arrive", func() bool {
		count := 0
		for _, p := range c.packets() {
			if p.Marker {
				count++
			}
		}
		return count >= n
	})
	packets := c.packets()
	if !startsKey(packets[0].Payload) {
		c.t.Fatalf("the first packet begins with %x: no key frame", packets[0].Payload[:4])
	}
	var unit []byte
	var decode codecs.H264Packet
	for i, q := range packets {
		if i > 0 {
			before := packets[i-1]
			if q.SequenceNumber != before.SequenceNumber+1 {
				c.t.Fatalf("sequence number %d after %d", q.SequenceNumber, before.SequenceNumber)
			}
			if step := int32(q.Timestamp - before.Timestamp); before.Marker != (step > 0) {
				c.t.Fatalf("RTP time goes by %d after a packet with marker %v", step, before.Marker)
			}
		}
		unit = depacketized(unit, &decode, q.Payload)
		if q.Marker {
			if p != nil && !p.sent(unit) {
				c.t.Fatal("a picture arrived that was not published")
			}
			unit = unit[:0]
		}
	}
	return packets
}
