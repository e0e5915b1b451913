// Package srt takes MPEG-TS over SRT in: a listener that any SRT caller publishes to (draft-sharabayko-srt-01), by datarhei's
// gosrt. What the caller wants stands in its stream id, in any of the dialects of internal/proto/srt.
//
// It does not send: relay/egress/srt does. It has no rendezvous mode and no bonding, as gosrt has none.
package srt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
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
	if n := len(c.Passphrase.Reveal()); n != 0 && (n < 10 || n > 79) {
		return errors.New("passphrase: SRT wants 10 to 79 characters")
	}
	return nil
}

// maxCallers bounds the connections held at once.
const maxCallers = 256

// A Server publishes what callers send. Listen before Run.
type Server struct {
	cfg       Config
	hub       *relay.Hub
	authorize func(token, stream string) error
	log       *slog.Logger
	listener  gosrt.Listener
	callers   sync.WaitGroup
	slots     chan struct{}
}

// Listen opens the port. authorize is asked for each caller's token; nil lets everybody publish.
func Listen(cfg Config, hub *relay.Hub, authorize func(token, stream string) error, log *slog.Logger) (*Server, error) {
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
	return &Server{cfg: cfg, hub: hub, authorize: authorize, log: log, listener: l, slots: make(chan struct{}, maxCallers)}, nil
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
		req.Reject(reason)
		return
	}
	conn, err := req.Accept()
	if err != nil {
		log.Warn("SRT caller lost", "err", err)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	priority, _ := strconv.Atoi(id.Params.Get("priority"))
	p := relay.Publisher{Protocol: "srt", Remote: remote, Priority: priority}
	ended := make(chan struct{})
	var watch sync.WaitGroup
	err = ingest.ReadTS(conn, s.hub, id.Stream, p, log, func(f *ingest.Feed) {
		watch.Go(func() { // a newer publisher, or the Hub, ends the connection
			select {
			case <-f.Done():
				conn.Close()
			case <-ended:
			}
		})
	})
	close(ended)
	watch.Wait()
	if err != nil && !errors.Is(err, io.EOF) {
		log.Info("SRT caller left", "stream", id.Stream, "reason", err)
	}
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
	if id.Play {
		return id, gosrt.REJX_BAD_MODE, errors.New("this port only takes publishers")
	}
	if !relay.ValidName(id.Stream) {
		return id, gosrt.REJX_BAD_REQUEST, relay.ErrName
	}
	if err := s.permitted(id); err != nil {
		return id, gosrt.REJX_UNAUTHORIZED, fmt.Errorf("publish %s: %w", id.Stream, err)
	}
	switch pass := s.cfg.Passphrase.Reveal(); {
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
	if s.authorize == nil {
		return nil
	}
	err := s.authorize("", id.Stream)
	for _, token := range id.Tokens() {
		if err = s.authorize(token, id.Stream); err == nil {
			return nil
		}
	}
	return err
}
