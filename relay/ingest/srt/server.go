// Package srt takes MPEG-TS over SRT in: a listener that any SRT caller publishes to (draft-sharabayko-srt-01), by datarhei's
// gosrt. What the caller wants stands in its stream id, in any of the dialects of internal/proto/srt.
//
// It does not send: callers that want to receive are handed to a Player, which relay/egress/srt has. It has no rendezvous mode
// and no bonding, as gosrt has none.
package srt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/internal/proto/srt"
	"gantry/internal/secret"
	"gantry/relay"
	"gantry/relay/ingest"
)

// Config is the listener's.
type Config struct {
	Addr       string        // UDP address, ":8890"
	Latency    time.Duration // within which lost packets are sent again; the larger of both sides' counts
	Passphrase secret.String // AES passphrase of 10 to 79 characters that every caller must know; empty: encryption is optional
}

// Default returns the configuration that suits contribution over the open internet.
func Default() Config { return Config{Addr: ":8890", Latency: 120 * time.Millisecond} }

// Validate names the key that is out of range.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("addr: want host:port or :port: %v", err)
	}
	if c.Latency < 20*time.Millisecond || c.Latency > 10*time.Second {
		return errors.New("latency: want 20ms to 10s")
	}
	if err := ValidPassphrase(c.Passphrase); err != nil {
		return fmt.Errorf("passphrase: %w", err)
	}
	return nil
}

// ValidPassphrase tells whether SRT can use p; an empty one means no encryption.
func ValidPassphrase(p secret.String) error {
	if n := len(p.Reveal()); n != 0 && (n < 10 || n > 79) {
		return errors.New("SRT wants 10 to 79 characters")
	}
	return nil
}

// Access are the questions that the Server leaves to others. Each may be nil.
type Access struct {
	Publish    func(token, stream string) error  // nil: everybody may
	Play       func(token, stream string) error  // nil: everybody may
	Passphrase func(stream string) secret.String // a stream's own; empty: Config.Passphrase
	// Player serves a caller that wants to receive, until it fails or ctx ends; the Server closes w. nil: such are refused.
	Player func(ctx context.Context, w io.Writer, stream string) error
}

// Stats count what a Server has done since it began.
type Stats struct {
	Callers   int    // now
	Refused   uint64 // callers
	Packets   uint64 // SRT data packets received, those sent again included
	Recovered uint64 // of them sent again
	Missing   uint64 // gaps seen; most are filled in time
	Sent      uint64 // SRT data packets sent
}

func (s *Stats) add(c gosrt.Conn) {
	var n gosrt.Statistics
	c.Stats(&n)
	a := &n.Accumulated
	s.Packets, s.Recovered = s.Packets+a.PktRecv, s.Recovered+a.PktRecvRetrans
	s.Missing, s.Sent = s.Missing+a.PktRecvLoss, s.Sent+a.PktSent
}

// maxCallers bounds the connections held at once.
const maxCallers = 256

// A Server publishes what callers send. Listen before Run.
type Server struct {
	cfg      Config
	hub      *relay.Hub
	access   Access
	log      *slog.Logger
	listener gosrt.Listener
	callers  sync.WaitGroup
	slots    chan struct{}

	mu    sync.Mutex
	conns map[gosrt.Conn]struct{}
	past  Stats // of callers that are gone
}

// Listen opens the port.
func Listen(cfg Config, hub *relay.Hub, access Access, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("srt: %w", err)
	}
	c := gosrt.DefaultConfig()
	c.ReceiverLatency, c.PeerLatency = cfg.Latency, 0
	c.PeerIdleTimeout = 5 * time.Second
	c.ListenerControl = func(_, _ string, raw syscall.RawConn) error {
		// gosrt asks for no buffer of its own; at the kernel's default a burst is lost before SRT sees it.
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<20) })
	}
	l, err := gosrt.Listen("srt", cfg.Addr, c)
	if err != nil {
		return nil, fmt.Errorf("listen for SRT on %s: %w", cfg.Addr, err)
	}
	return &Server{cfg: cfg, hub: hub, access: access, log: log, listener: l, slots: make(chan struct{}, maxCallers),
		conns: map[gosrt.Conn]struct{}{}}, nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.past
	sum.Callers = len(s.conns)
	for c := range s.conns {
		sum.add(c)
	}
	return sum
}

// enter counts conn among the callers until leave is called.
func (s *Server) enter(conn gosrt.Conn) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
		s.past.add(conn)
	}
}

// Addr returns the address that the Server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends and returns after the last caller.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.listener.Close)
	defer func() {
		if stop() {
			s.listener.Close()
		}
		s.callers.Wait()
	}()
	for {
		req, err := s.listener.Accept2()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept SRT callers: %w", err)
		}
		select {
		case s.slots <- struct{}{}:
		default:
			req.Reject(gosrt.REJX_OVERLOAD)
			continue
		}
		s.callers.Go(func() {
			defer func() { <-s.slots }()
			s.serve(ctx, req)
		})
	}
}

// serve answers one caller and publishes it to its end.
func (s *Server) serve(ctx context.Context, req gosrt.ConnRequest) {
	remote := req.RemoteAddr().String()
	log := s.log.With("remote", remote)
	id, reason, err := s.check(req)
	if err != nil {
		log.Warn("SRT caller refused", "reason", err)
		s.mu.Lock()
		s.past.Refused++
		s.mu.Unlock()
		req.Reject(reason)
		return
	}
	conn, err := req.Accept()
	if err != nil {
		log.Warn("SRT caller lost", "err", err)
		return
	}
	defer conn.Close()
	defer s.enter(conn)()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() })
	if id.Play {
		s.play(ctx, cancel, conn, id.Stream, log)
		return
	}
	p := relay.Publisher{Protocol: "srt", Remote: remote}
	_ = ingest.Describe(&p, id.Params) // check has seen to it
	err = ingest.ReadTS(conn, s.hub, id.Stream, p, log)
	if err != nil && !errors.Is(err, io.EOF) {
		log.Info("SRT caller left", "stream", id.Stream, "reason", err)
	}
}

// play has the Player write to conn until one of the three ends it.
func (s *Server) play(ctx context.Context, cancel context.CancelFunc, conn gosrt.Conn, stream string, log *slog.Logger) {
	var left sync.WaitGroup
	left.Go(func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, conn) // nothing comes; it ends with the connection
	})
	log.Info("SRT viewer joined", "stream", stream)
	if err := s.access.Player(ctx, conn, stream); err != nil {
		log.Info("SRT viewer left", "stream", stream, "reason", err)
	}
	_ = conn.Close()
	left.Wait()
}

// check reads what the caller wants and whether it may.
func (s *Server) check(req gosrt.ConnRequest) (srt.StreamID, gosrt.RejectionReason, error) {
	if req.Version() < 5 {
		return srt.StreamID{}, gosrt.REJ_VERSION, errors.New("the caller speaks SRT 1.2 or older, which has no stream id; update it")
	}
	id, err := srt.ParseStreamID(req.StreamId())
	if err != nil {
		return id, gosrt.REJX_BAD_REQUEST, err
	}
	if id.Play && s.access.Player == nil {
		return id, gosrt.REJX_BAD_MODE, errors.New("this port only takes publishers")
	}
	if !relay.ValidName(id.Stream) {
		return id, gosrt.REJX_BAD_REQUEST, relay.ErrName
	}
	if err := ingest.Describe(&relay.Publisher{}, id.Params); err != nil && !id.Play {
		return id, gosrt.REJX_BAD_REQUEST, err
	}
	if err := s.permitted(id); err != nil {
		return id, gosrt.REJX_UNAUTHORIZED, fmt.Errorf("stream %s: %w", id.Stream, err)
	}
	pass := s.cfg.Passphrase.Reveal()
	if s.access.Passphrase != nil {
		if own := s.access.Passphrase(id.Stream).Reveal(); own != "" {
			pass = own
		}
	}
	switch {
	case req.IsEncrypted() && pass == "":
		return id, gosrt.REJ_UNSECURE, errors.New("the caller encrypts and no passphrase is set here")
	case req.IsEncrypted():
		if err := req.SetPassphrase(pass); err != nil {
			return id, gosrt.REJ_BADSECRET, fmt.Errorf("passphrase: %w", err)
		}
	case pass != "":
		return id, gosrt.REJ_UNSECURE, errors.New("the caller does not encrypt; set the relay's passphrase in it")
	}
	return id, 0, nil
}

// permitted tries the token as written and as decoded.
func (s *Server) permitted(id srt.StreamID) error {
	authorize := s.access.Publish
	if id.Play {
		authorize = s.access.Play
	}
	if authorize == nil {
		return nil
	}
	err := authorize("", id.Stream)
	for _, token := range id.Tokens() {
		if err = authorize(token, id.Stream); err == nil {
			return nil
		}
	}
	return err
}
