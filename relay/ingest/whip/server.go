package whip

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	proto "gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/media"
	"gantry/relay"
)

// Prefix is the path of the endpoints; the stream's name follows.
const Prefix = "/whip/"

const (
	captureURI       = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
	feedbackInterval = 50 * time.Millisecond // of transport-wide congestion control
	reportInterval   = time.Second
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
	cfg      Config
	hub      *relay.Hub
	port     *rtc.Port
	log      *slog.Logger
	endpoint *proto.Endpoint
	counters Counters
	bonds    bonds
}

// New returns a Server that publishes to hub what comes by port, which stays the caller's.
func New(cfg Config, hub *relay.Hub, port *rtc.Port, access Access, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, hub: hub, port: port, log: log, bonds: bonds{all: map[bondKey]*bond{}}}
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
func (s *Server) accept(_ context.Context, o proto.Offer) (proto.Answer, error) {
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
	offer, err := parseOffer(o.SDP)
	if err != nil {
		return proto.Answer{}, err
	}
	session := &session{server: s, stream: o.Stream, remote: o.Remote, priority: priority, bond: bonding, born: time.Now(),
		log: s.log.With("session", o.Session), mid: offer.sections[0].mid,
		ending: make(chan error, 1), kick: make(chan struct{}, 1), done: make(chan struct{}),
		path: path{feedback: media.NewMailbox(), ssrc: mathrand.Uint32(), sources: map[uint32]source{}}}
	session.prepare(offer.sections)
	answer, err := session.negotiate(offer)
	if err != nil {
		return proto.Answer{}, err
	}
	s.counters.Sessions.Add(1)
	session.log.Info("publisher's session opened", "stream", o.Stream, "remote", o.Remote)
	go session.run(offer.remote)
	return proto.Answer{SDP: answer, Session: session}, nil
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

// captureTime reads the abs-capture-time header extension; 0 when there is none.
func captureTime(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
