package whip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"gantry/internal/rtc"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A bench is a relay with the server under test.
type bench struct {
	hub    *relay.Hub
	server *Server
	port   *rtc.Port
	web    *httptest.Server
}

func start(t testing.TB, access Access) *bench {
	t.Helper()
	return startWith(t, access, Default(), nil)
}

// startWith starts a relay; change may alter how its port is set up.
func startWith(t testing.TB, access Access, cfg Config, change func(*rtc.Config)) *bench {
	t.Helper()
	out := io.Discard
	if testing.Verbose() {
		out = t.Output()
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	at := rtc.Config{Addr: "127.0.0.1:0"}
	if change != nil {
		change(&at)
	}
	port, err := rtc.Listen(at, log)
	if err != nil {
		t.Fatal(err)
	}
	hub := relay.Default()
	hub.Hold = 0
	b := &bench{hub: relay.NewHub(hub, log), port: port}
	if b.server, err = New(cfg, b.hub, port, access, log); err != nil {
		t.Fatal(err)
	}
	b.web = httptest.NewServer(b.server)
	t.Cleanup(func() {
		b.web.Close()
		_ = b.server.Close()
		_ = b.hub.Close()
		_ = port.Close()
	})
	return b
}

// watch collects the access units of a stream from its first key frame on, until enough says so.
func (b *bench) watch(t testing.TB, stream string, enough func(*viewer) bool) *viewer {
	t.Helper()
	var sub *relay.Subscription
	testkit.Eventually(t, 20*time.Second, "stream "+stream+" is live", func() bool {
		var err error
		sub, err = b.hub.Subscribe(stream, relay.Want{Packing: media.RTP})
		return err == nil
	})
	defer sub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	v := &viewer{tracks: sub.Tracks(), units: make([][]unitSeen, len(sub.Tracks())), open: make([]unitSeen, len(sub.Tracks()))}
	var packets []*media.Packet
	for !enough(v) {
		var err error
		if packets, err = sub.Pull(ctx, packets[:0]); err != nil {
			t.Fatalf("pull: %v; %d units", err, len(v.units[0]))
		}
		for _, p := range packets {
			v.take(p)
		}
	}
	return v
}

// A viewer puts access units together as a player would.
type viewer struct {
	tracks []media.Track
	units  [][]unitSeen // whole ones, by track
	open   []unitSeen
	lost   int
}

type unitSeen struct {
	pts      time.Duration
	key      bool
	payloads [][]byte
	good     bool
}

func (v *viewer) take(p *media.Packet) {
	u := &v.open[p.Track]
	if p.Lost {
		v.lost++
	}
	if p.Start {
		*u = unitSeen{pts: p.PTS, key: p.Key, good: true}
	} else if p.Lost {
		u.good = false
	}
	u.payloads = append(u.payloads, p.Data)
	if p.End && u.good {
		v.units[p.Track] = append(v.units[p.Track], *u)
		u.good = false
	}
}

// annexB returns the unit as a byte stream.
func (u unitSeen) annexB(t testing.TB) []byte {
	t.Helper()
	var d codecs.H264Packet
	var all []byte
	for _, p := range u.payloads {
		out, err := d.Unmarshal(p)
		if err != nil {
			t.Fatalf("depacketize %x: %v", p[:min(8, len(p))], err)
		}
		all = append(all, out...)
	}
	return all
}

// picture returns what of an access unit is coded picture: parameter sets and delimiters may come and go on the way.
func picture(au []byte) [32]byte {
	h := sha256.New()
	for n := range h264.NALUs(au) {
		if t := h264.TypeOf(n); t == h264.IDR || t == h264.NonIDR {
			h.Write(n)
		}
	}
	return [32]byte(h.Sum(nil))
}

var recordings sync.Map

// record returns the access units of 4 s of a moving picture, encoded by ffmpeg.
func record(t testing.TB, size string, x264 string) [][]byte {
	t.Helper()
	key := size + x264
	if r, ok := recordings.Load(key); ok {
		return r.([][]byte)
	}
	cmd := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=30:size="+size, "-frames:v", "120", "-pix_fmt", "yuv420p",
		"-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-x264-params", "aud=1:keyint=30:scenecut=0:"+x264, "-f", "h264", "-")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stream, err := cmd.Output()
	if err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, stderr.String())
	}
	var units [][]byte
	for n := range h264.NALUs(stream) {
		if h264.TypeOf(n) == h264.AUD {
			units = append(units, nil)
		}
		units[len(units)-1] = h264.Append(units[len(units)-1], n)
	}
	if len(units) != 120 {
		t.Fatalf("%d access units", len(units))
	}
	recordings.Store(key, units)
	return units
}

const plain = "bframes=0:tune=zerolatency:repeat-headers=1"

// A peer publishes with pion.
type peer struct {
	t        testing.TB
	pc       *webrtc.PeerConnection
	video    *webrtc.TrackLocalStaticRTP
	audio    *webrtc.TrackLocalStaticRTP
	sender   *webrtc.RTPSender
	seq      uint16
	ts       uint32
	ats      uint32
	aseq     uint16
	plis     chan struct{}
	readers  sync.WaitGroup
	location string
	etag     string
	answer   string
}

// newPeer offers every codec that pion knows, with RTX.
func newPeer(t testing.TB) *peer {
	t.Helper()
	var m webrtc.MediaEngine
	if err := m.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	return newPeerWith(t, &m)
}

// newSimplePeer offers H.264 alone, without RTX.
func newSimplePeer(t testing.TB) *peer {
	t.Helper()
	var m webrtc.MediaEngine
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: avcCapability}, webrtc.RTPCodecTypeVideo); err != nil {
		t.Fatal(err)
	}
	return newPeerWith(t, &m)
}

var avcCapability = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000,
	SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}

func newPeerWith(t testing.TB, m *webrtc.MediaEngine) *peer {
	t.Helper()
	var chain interceptor.Registry
	if err := webrtc.RegisterDefaultInterceptors(m, &chain); err != nil {
		t.Fatal(err)
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(1)
	e.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(&chain), webrtc.WithSettingEngine(e)).
		NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, pc: pc, plis: make(chan struct{}, 100), seq: 65500, ts: 1<<32 - 90000}
	t.Cleanup(p.close)
	return p
}

func (p *peer) close() {
	_ = p.pc.GracefulClose()
	p.readers.Wait()
}

func (p *peer) addVideo() {
	p.t.Helper()
	var err error
	p.video, err = webrtc.NewTrackLocalStaticRTP(avcCapability, "video", "gantry")
	if err != nil {
		p.t.Fatal(err)
	}
	p.sender = p.add(p.video)
}

func (p *peer) addAudio() {
	p.t.Helper()
	var err error
	p.audio, err = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "gantry")
	if err != nil {
		p.t.Fatal(err)
	}
	p.add(p.audio)
}

func (p *peer) add(track webrtc.TrackLocal) *webrtc.RTPSender {
	p.t.Helper()
	tr, err := p.pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		p.t.Fatal(err)
	}
	video := track.Kind() == webrtc.RTPCodecTypeVideo
	p.readers.Go(func() {
		for {
			packets, _, err := tr.Sender().ReadRTCP()
			if err != nil {
				return
			}
			for _, pkt := range packets {
				if _, ok := pkt.(*rtcp.PictureLossIndication); ok && video {
					select {
					case p.plis <- struct{}{}:
					default:
					}
				}
			}
		}
	})
	return tr.Sender()
}

// offer makes a complete offer.
func (p *peer) offer() string {
	p.t.Helper()
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		p.t.Fatal(err)
	}
	<-done
	return p.pc.LocalDescription().SDP
}

// publish opens a session and waits for the connection. through may change the answer.
func (p *peer) publish(b *bench, path string, through func(string) string) {
	p.t.Helper()
	connected := make(chan struct{})
	var once sync.Once
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(connected) })
		}
	})
	r := do(p.t, http.MethodPost, b.web.URL+path, p.offer(), "Content-Type", "application/sdp")
	if r.StatusCode != http.StatusCreated {
		p.t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	p.location, p.etag, p.answer = r.Header.Get("Location"), r.Header.Get("ETag"), r.body
	answer := r.body
	if through != nil {
		answer = through(answer)
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-connected:
	case <-time.After(15 * time.Second):
		p.t.Fatal("not connected")
	}
}

// send writes one access unit, its RTP time advanced by ticks first.
func (p *peer) send(au []byte, ticks uint32) {
	p.t.Helper()
	p.ts += ticks
	var pay codecs.H264Payloader
	payloads := pay.Payload(1100, au)
	for i, data := range payloads {
		p.seq++
		pkt := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: p.seq, Timestamp: p.ts, Marker: i == len(payloads)-1}, Payload: data}
		if err := p.video.WriteRTP(pkt); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *peer) sendAudio(data []byte) {
	p.t.Helper()
	p.ats += 1600 // as long as a picture
	p.aseq++
	if err := p.audio.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: p.aseq, Timestamp: p.ats}, Payload: data}); err != nil {
		p.t.Fatal(err)
	}
}

// play sends access units at 30 fps until ctx ends, over and over; keyed tells which are key frames to begin with.
func (p *peer) play(ctx context.Context, units [][]byte) {
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	for i := 0; ; i++ {
		p.send(units[i%len(units)], 3000)
		if p.audio != nil {
			p.sendAudio([]byte{0xfc, byte(i), 1, 2})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// playing plays in the background until the test ends or stop is called.
func (p *peer) playing(units [][]byte) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.play(ctx, units) })
	stop = func() { cancel(); wg.Wait() }
	p.t.Cleanup(stop)
	return stop
}

// vp8 returns a packet that is a picture of its own, each tenth a key frame, with header extensions.
func vp8(i uint16, extensions map[uint8]string) *rtp.Packet {
	frame := []byte{0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if i%10 == 0 {
		frame = []byte{0x00, 0, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0}
	}
	p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: i, Timestamp: 900 * uint32(i), Marker: true}, Payload: append([]byte{0x10}, frame...)}
	for id, value := range extensions {
		_ = p.SetExtension(id, []byte(value))
	}
	return p
}

type response struct {
	*http.Response
	body string
}

// do makes a request with header fields given in pairs.
func do(t testing.TB, method, url, body string, fields ...string) response {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 20 * time.Second}
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{r, string(text)}
}
