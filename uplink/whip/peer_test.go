package whip

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"gantry/internal/clock"
	"gantry/internal/proto/whip"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/uplink"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // they wait for networks, not for processors; -parallel overrides it
	testkit.Main(m)
}

const token = "correct-horse"

// A peer is a WHIP server made of pion's own receiver: NACK generator, TWCC feedback, receiver reports. It receives what a
// Sender under test sends.
type peer struct {
	t    *testing.T
	http *httptest.Server
	// rewrite, if set, changes the answer and the fragment of a restart: a proxy puts itself into the path with it.
	rewrite func(string) string
	// ignore candidates of the client, so that it cannot be reached around a proxy.
	ignore    bool
	noPatch   int // status that PATCH is refused with
	noRestart bool
	rtx       bool   // offer RTX
	link      string // Link of the answer, and of OPTIONS

	mu      sync.Mutex
	pc      *webrtc.PeerConnection
	offer   string
	etag    int
	log     []string // METHOD and what matters
	packets map[webrtc.RTPCodecType][]*rtp.Packet
	exts    map[string]int // header extension URI → id
	reports []*rtcp.SenderReport
	bytes   atomic.Int64
	video   atomic.Pointer[webrtc.TrackRemote]
	readers sync.WaitGroup
}

func newPeer(t *testing.T) *peer {
	p := &peer{t: t, rtx: true, packets: map[webrtc.RTPCodecType][]*rtp.Packet{}, exts: map[string]int{}}
	p.http = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() {
		p.http.Close()
		p.end()
	})
	return p
}

func (p *peer) url() string { return p.http.URL + "/whip/test" }

func (p *peer) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, r.Method+" "+r.Header.Get("If-Match"))
	if r.Header.Get("Authorization") != "Bearer "+token {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"title":"Unauthorized","detail":"no such token"}`)
		return
	}
	if p.link != "" && (r.Method == http.MethodPost || r.Method == http.MethodOptions) {
		w.Header().Set("Link", p.link)
	}
	switch r.Method {
	case http.MethodPost:
		p.offer = string(body)
		answer, err := p.accept(string(body))
		if err != nil {
			p.t.Errorf("accept: %v", err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", "session/1")
		w.Header().Set("ETag", p.tag())
		w.Header().Set("Content-Type", "application/sdp")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, answer)
	case http.MethodPatch:
		if p.noPatch != 0 {
			w.WriteHeader(p.noPatch)
			return
		}
		f, err := whip.ParseFragment(body)
		if err != nil {
			p.t.Errorf("fragment: %v in %q", err, body)
		}
		if r.Header.Get("If-Match") == `"*"` {
			p.restart(w, f)
			return
		}
		if r.Header.Get("If-Match") != p.tag() {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		p.add(f)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		w.WriteHeader(http.StatusOK)
		go p.end()
	}
}

func (p *peer) tag() string { return fmt.Sprintf(`"%d"`, p.etag) }

func (p *peer) add(f whip.Fragment) {
	if p.ignore {
		return
	}
	for _, c := range f.Candidates {
		if err := p.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.Value, SDPMid: &c.MID}); err != nil {
			p.t.Errorf("candidate: %v", err)
		}
	}
}

func (p *peer) accept(offer string) (string, error) {
	if p.pc != nil {
		go p.pc.GracefulClose()
	}
	if p.ignore {
		var kept []string
		for _, l := range strings.Split(offer, "\r\n") {
			if !strings.HasPrefix(l, "a=candidate:") {
				kept = append(kept, l)
			}
		}
		offer = strings.Join(kept, "\r\n")
	}
	engine := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}, {Type: "transport-cc"}}
	must(p.t, engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 102, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264,
		ClockRate: 90000, SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f", RTCPFeedback: feedback}}, webrtc.RTPCodecTypeVideo))
	if p.rtx {
		must(p.t, engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 103, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX,
			ClockRate: 90000, SDPFmtpLine: "apt=102"}}, webrtc.RTPCodecTypeVideo))
	}
	must(p.t, engine.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus,
		ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1;stereo=1"}}, webrtc.RTPCodecTypeAudio))
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		must(p.t, engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: absCaptureTimeURI}, kind))
	}
	registry := &interceptor.Registry{}
	must(p.t, webrtc.RegisterDefaultInterceptors(engine, registry))
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(loopbackOnly)
	settings.SetSRTPReplayProtectionWindow(4096) // the default of 64 refuses what comes again late
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.LoggerFactory = newPionLog(slog.New(slog.DiscardHandler))
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings)).
		NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	p.pc = pc
	pc.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) { p.receive(track, receiver) })
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	return p.answer()
}

func (p *peer) answer() (string, error) {
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	sdp := p.pc.LocalDescription().SDP
	if p.rewrite != nil {
		sdp = p.rewrite(sdp)
	}
	return sdp, nil
}

func (p *peer) restart(w http.ResponseWriter, f whip.Fragment) {
	if p.noRestart {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	if p.ignore {
		f.Candidates = nil
	}
	offer, err := withICE(p.pc.RemoteDescription().SDP, f)
	if err == nil {
		err = p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer})
	}
	var answer string
	if err == nil {
		answer, err = p.answer()
	}
	if err != nil {
		p.t.Errorf("restart: %v", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	ours, err := fragment(answer)
	if err != nil {
		p.t.Error(err)
	}
	p.etag++
	w.Header().Set("ETag", p.tag())
	w.Header().Set("Content-Type", whip.FragmentType)
	_, _ = w.Write(ours.Marshal())
}

func (p *peer) receive(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	p.mu.Lock()
	for _, e := range receiver.GetParameters().HeaderExtensions {
		p.exts[e.URI] = e.ID
	}
	p.mu.Unlock()
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		p.video.Store(track)
	}
	p.readers.Go(func() {
		for {
			all, _, err := receiver.ReadRTCP()
			if err != nil {
				return
			}
			for _, r := range all {
				if sr, ok := r.(*rtcp.SenderReport); ok {
					p.mu.Lock()
					p.reports = append(p.reports, sr)
					p.mu.Unlock()
				}
			}
		}
	})
	for {
		pkt, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		p.bytes.Add(int64(len(pkt.Payload)))
		p.mu.Lock()
		p.packets[track.Kind()] = append(p.packets[track.Kind()], pkt)
		p.mu.Unlock()
	}
}

// received returns a copy of the packets of a kind.
func (p *peer) received(kind webrtc.RTPCodecType) []*rtp.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*rtp.Packet(nil), p.packets[kind]...)
}

func (p *peer) requests() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, ", ")
}

func (p *peer) pli() {
	must(p.t, p.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(p.video.Load().SSRC())}}))
}

func (p *peer) fir() {
	ssrc := uint32(p.video.Load().SSRC())
	must(p.t, p.pc.WriteRTCP([]rtcp.Packet{&rtcp.FullIntraRequest{MediaSSRC: ssrc, FIR: []rtcp.FIREntry{{SSRC: ssrc, SequenceNumber: 1}}}}))
}

func (p *peer) end() {
	p.mu.Lock()
	pc := p.pc
	p.mu.Unlock()
	if pc != nil {
		_ = pc.GracefulClose()
	}
	p.readers.Wait()
}

// A programme is a fake encoder: 30 pictures and 50 sounds a second, at the bitrate that feedback asks for, a key frame when
// it asks for one.
type programme struct {
	uplink.Program
	rate   atomic.Int64 // bit/s of video
	most   int64
	mu     sync.Mutex
	got    []media.Feedback
	at     []time.Time
	keyAsk atomic.Bool
	live   chan struct{}
}

func tracks() []media.Track {
	return []media.Track{
		{Codec: media.H264, ClockRate: 90000, Width: 1280, Height: 720, Profile: "64001f", Bitrate: 2_000_000},
		{Codec: media.Opus, ClockRate: 48000, Channels: 2, Bitrate: 64_000},
	}
}

func newProgramme(bitrate int64) *programme {
	p := &programme{most: bitrate, live: make(chan struct{}, 9)}
	p.rate.Store(bitrate)
	p.Tracks = tracks()
	p.Packets = media.NewQueue(500*time.Millisecond, p.Tracks)
	p.Wall = clock.Wall
	p.Connected = func() { p.live <- struct{}{} }
	p.Feedback = func(f media.Feedback) {
		p.mu.Lock()
		p.got, p.at = append(p.got, f), append(p.at, time.Now())
		p.mu.Unlock()
		if f.KeyFrame {
			p.keyAsk.Store(true)
		}
		if f.Bitrate != 0 {
			p.rate.Store(min(int64(f.Bitrate), p.most))
		}
	}
	return p
}

func (p *programme) feedback() []media.Feedback {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]media.Feedback(nil), p.got...)
}

// encode runs the fake encoder until ctx ends.
func (p *programme) encode(ctx context.Context) {
	p.keyAsk.Store(true)
	p.tick(ctx, func(_ int, now time.Duration) {
		size := int(p.rate.Load() / 30 / 8)
		key := p.keyAsk.Swap(false)
		if key {
			size *= 4
		}
		if _, need := p.Packets.Push(&media.Packet{Track: 0, PTS: now, DTS: now, Start: true, End: true, Key: key, Data: unit(size, key)}); need != 0 {
			p.keyAsk.Store(true)
		}
	})
}

// tick has picture push what is due, thirty times a second until ctx ends, and pushes the sound of the last track.
func (p *programme) tick(ctx context.Context, picture func(i int, now time.Duration)) {
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	audio := clock.Now()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := clock.Now()
		for ; audio < now; audio += 20 * time.Millisecond {
			p.Packets.Push(&media.Packet{Track: uint8(len(p.Tracks) - 1), PTS: audio, Start: true, End: true, Key: true, Data: randomBytes(160)})
		}
		picture(i, now)
	}
}

var (
	testSPS = []byte{0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50}
	testPPS = []byte{0x68, 0xeb, 0xe3, 0xcb}
)

// unit returns an access unit of about size bytes whose slices hold noise.
func unit(size int, key bool) []byte {
	b := []byte{0, 0, 0, 1, 9, 0xf0}
	kind := byte(0x41)
	if key {
		b = append(append(b, 0, 0, 0, 1), testSPS...)
		b = append(append(b, 0, 0, 0, 1), testPPS...)
		kind = 0x65
	}
	return append(append(b, 0, 0, 0, 1, kind), randomBytes(size)...)
}

// randomBytes returns noise without zeros, so that no start code appears in it.
func randomBytes(n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], rand.Uint64()|0x0101010101010101)
	}
	return b[:n]
}

// start runs a Sender against url and returns it with a function that stops it and returns Run's error.
func start(t *testing.T, c Config, p *programme) (*Sender, func() error) {
	t.Helper()
	if c.Token == "" {
		c.Token = token
	}
	s, err := New(c, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, p.Program) }()
	encoded := make(chan struct{})
	go func() {
		p.encode(ctx)
		close(encoded)
	}()
	stop := sync.OnceValue(func() error {
		cancel()
		<-encoded
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, stop
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func config(url string) Config {
	c := Default()
	c.URL = url
	return c
}

func connected(t *testing.T, p *programme) {
	t.Helper()
	select {
	case <-p.live:
	case <-time.After(20 * time.Second):
		t.Fatal("not connected")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
