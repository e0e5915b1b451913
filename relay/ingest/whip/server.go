package whip

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	proto "gantry/internal/proto/whip"
	"gantry/media"
	"gantry/relay"
)

// Prefix is the path of the endpoints; the stream's name follows.
const Prefix = "/whip/"

const (
	captureURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
	receiveMTU = 1500
	// replayWindow is how far back a retransmission may reach that is sent as the same packet again, without RTX.
	replayWindow     = 4096
	feedbackInterval = 50 * time.Millisecond // of transport-wide congestion control
	maxPriority      = 100
)

// Config is the ingest's. The value is comparable.
type Config struct {
	Hold   time.Duration // longest wait for a packet that was asked for again
	Limits proto.Limits
}

// Default returns the configuration that suits publishers on the open internet.
func Default() Config { return Config{Hold: 800 * time.Millisecond, Limits: proto.DefaultLimits()} }

// Validate names the key that is out of range.
func (c Config) Validate() error {
	if c.Hold < minHold || c.Hold > 2*time.Second {
		return fmt.Errorf("hold: want %v to 2s", minHold)
	}
	return nil
}

// Access says who may publish, and what STUN and TURN servers publishers are told of. Both may be nil: everybody, none.
type Access struct {
	Authorize  func(token, stream string) error
	ICEServers func(token, stream string) []proto.Link
}

// Counters count over all sessions since the start.
type Counters struct {
	Sessions    atomic.Int64  // open now
	Packets     atomic.Uint64 // received
	Recovered   atomic.Uint64 // came late, or again, and in time
	Lost        atomic.Uint64 // given up
	NACKs       atomic.Uint64 // packets asked for again
	KeyRequests atomic.Uint64 // PLI and FIR sent
	Repairs     atomic.Uint64 // sequence numbers or timestamps that jumped and were joined
}

// A Server is the http.Handler of all WHIP endpoints and sessions below Prefix.
type Server struct {
	cfg       Config
	hub       *relay.Hub
	configure func(*webrtc.SettingEngine)
	log       *slog.Logger
	cert      webrtc.Certificate
	endpoint  *proto.Endpoint
	counters  Counters
	bonds     bonds
}

// New returns a Server that publishes to hub. configure gives the peer connections their ports, as (*rtc.Port).Configure.
func New(cfg Config, hub *relay.Hub, configure func(*webrtc.SettingEngine), access Access, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make DTLS key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("make DTLS certificate: %w", err)
	}
	s := &Server{cfg: cfg, hub: hub, configure: configure, log: log, cert: *cert, bonds: bonds{all: map[bondKey]*bond{}}}
	s.endpoint = proto.NewEndpoint(proto.Options{Prefix: Prefix, Log: log, Accept: s.accept, Authorize: access.Authorize,
		ICEServers: access.ICEServers, Limits: cfg.Limits})
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.endpoint.ServeHTTP(w, r) }

// Counters returns what the Server counts; it stays current.
func (s *Server) Counters() *Counters { return &s.counters }

// Close ends all sessions and waits for them.
func (s *Server) Close() error { return s.endpoint.Close() }

// accept opens a session for an offer.
func (s *Server) accept(ctx context.Context, o proto.Offer) (proto.Answer, error) {
	if !relay.ValidName(o.Stream) {
		return proto.Answer{}, proto.Errorf(http.StatusNotFound, "%v", relay.ErrName)
	}
	priority := 0
	if p := o.Query.Get("priority"); p != "" {
		var err error
		if priority, err = strconv.Atoi(p); err != nil || priority < 0 || priority > maxPriority {
			return proto.Answer{}, proto.Errorf(http.StatusBadRequest, "priority: want 0 to %d", maxPriority)
		}
	}
	bonding, err := parseBonding(o.Query)
	if err != nil {
		return proto.Answer{}, err
	}
	sections, err := parseOffer(o.SDP)
	if err != nil {
		return proto.Answer{}, err
	}
	session := &session{server: s, stream: o.Stream, remote: o.Remote, priority: priority, bond: bonding, born: time.Now(),
		log:      s.log.With("session", o.Session),
		gathered: make(chan struct{}, 1), ending: make(chan error, 1), kick: make(chan struct{}, 1), done: make(chan struct{}),
		path: path{feedback: media.NewMailbox(), ssrc: mathrand.Uint32()}}
	session.prepare(sections)
	if session.pc, err = s.connection(session, sections); err != nil {
		return proto.Answer{}, err
	}
	answer, err := session.negotiate(ctx, o.SDP, sections)
	if err != nil {
		_ = session.pc.GracefulClose()
		return proto.Answer{}, err
	}
	s.counters.Sessions.Add(1)
	session.log.Info("publisher's session opened", "stream", o.Stream, "remote", o.Remote)
	go session.run()
	return proto.Answer{SDP: answer, Session: session}, nil
}

// connection makes a peer connection that knows the codecs of sections and no others.
func (s *Server) connection(session *session, sections []*section) (*webrtc.PeerConnection, error) {
	var codecs webrtc.MediaEngine
	for _, sec := range sections {
		for _, c := range sec.choices {
			if err := codecs.RegisterCodec(c.params, sec.kind); err != nil {
				return nil, refused("the %v track: %v", sec.kind, err)
			}
			if c.rtx == nil {
				continue
			}
			if err := codecs.RegisterCodec(*c.rtx, sec.kind); err != nil {
				return nil, refused("the %v track: %v", sec.kind, err)
			}
		}
		for _, uri := range []string{sdp.SDESMidURI, sdp.SDESRTPStreamIDURI, sdp.SDESRepairRTPStreamIDURI, sdp.TransportCCURI, captureURI} {
			if err := codecs.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, sec.kind); err != nil {
				return nil, fmt.Errorf("register header extension %s: %w", uri, err)
			}
		}
	}
	var chain interceptor.Registry
	congestion, err := twcc.NewSenderInterceptor(twcc.SendInterval(feedbackInterval))
	if err != nil {
		return nil, fmt.Errorf("make congestion feedback: %w", err)
	}
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return nil, fmt.Errorf("make receiver reports: %w", err)
	}
	chain.Add(congestion)
	chain.Add(reports)
	chain.Add(&repair{s: session})

	var engine webrtc.SettingEngine
	s.configure(&engine)
	// We are the DTLS server where the publisher lets us, so that the cheapest cipher that both have is taken (RFC 7714;
	// RFC 5764 §4.1.2).
	role := webrtc.DTLSRoleServer
	if slices.ContainsFunc(sections, func(s *section) bool { return s.passive }) {
		role = webrtc.DTLSRoleClient
	}
	if err := engine.SetAnsweringDTLSRole(role); err != nil {
		return nil, fmt.Errorf("set DTLS role: %w", err)
	}
	engine.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	engine.SetSRTPReplayProtectionWindow(replayWindow)
	engine.SetReceiveMTU(receiveMTU)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&codecs), webrtc.WithInterceptorRegistry(&chain), webrtc.WithSettingEngine(engine))
	pc, err := api.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{s.cert}})
	if err != nil {
		return nil, fmt.Errorf("make peer connection: %w", err)
	}
	pc.OnTrack(session.received)
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			select {
			case session.gathered <- struct{}{}:
			default:
			}
		}
	})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateFailed:
			session.end(errConsent)
		case webrtc.PeerConnectionStateClosed:
			session.end(errLeft)
		}
	})
	return pc, nil
}

// prepare makes the tracks of a session.
func (s *session) prepare(sections []*section) {
	for _, sec := range sections {
		layers := sec.layers
		if len(layers) == 0 {
			layers = []string{""}
		}
		for _, rid := range layers {
			t := &track{index: uint8(len(s.tracks)), origin: origin{section: sec, rid: rid, choices: sec.of(rid)}}
			s.choose(t, t.choices[0])
			t.sure = settled(t.choices)
			s.tracks = append(s.tracks, t)
		}
	}
}

// retransmitted takes a packet of an RTX stream (RFC 4588 §4): the original's sequence number, then its payload.
func (s *session) retransmitted(ssrc uint32, b []byte) {
	payload, ok := rtpPayload(b)
	if !ok || len(payload) < 2 {
		return // padding that probes the path
	}
	p := piece{seq: binary.BigEndian.Uint16(payload), ts: binary.BigEndian.Uint32(b[4:]), marker: b[1]&0x80 != 0, arrival: s.now()}
	s.mu.Lock()
	var t *track
	for _, candidate := range s.tracks {
		if candidate.remote != nil && uint32(candidate.remote.RtxSSRC()) == ssrc {
			t = candidate
		}
	}
	s.mu.Unlock()
	if t != nil && t.sure { // its payload type is not the track's
		s.receive(t, uint8(t.choice.params.PayloadType), p, payload[2:])
	}
}

func isRTX(mime string) bool { return strings.HasSuffix(strings.ToLower(mime), "/rtx") }

// captureTime reads the abs-capture-time header extension; 0 when there is none.
func captureTime(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
