// Package rtsp serves the programme to players by RTSP (RFC 2326), by bluenviron's gortsplib: over TCP or UDP, with digest
// authentication, or by RTSPS. It implements uplink.Sender in the role of the server: players come to it.
//
// It codes nothing, and serves one programme under one name.
package rtsp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/auth"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"

	"gantry/media"
	"gantry/uplink"
)

const (
	maxPlayers = 8
	maxConns   = 32   // connections, with those that have not yet said who they are
	waiting    = 4096 // RTP packets that may wait for one player: a large key frame and more
)

// A Sender is one server. It implements uplink.Sender and uplink.Reporter.
type Sender struct {
	config  Config
	log     *slog.Logger
	packets atomic.Uint64
	bytes   atomic.Uint64
	players atomic.Int64
	dropped atomic.Uint64
}

var (
	_ uplink.Sender   = (*Sender)(nil)
	_ uplink.Reporter = (*Sender)(nil)
)

// New returns a Sender for a valid Config. It does not listen.
func New(c Config, log *slog.Logger) *Sender { return &Sender{config: c, log: log} }

// Stats implements uplink.Reporter.
func (s *Sender) Stats() uplink.Stats {
	return uplink.Stats{Remote: s.config.Addr, Peers: int(s.players.Load()), Packets: s.packets.Load(), Bytes: s.bytes.Load(), Dropped: s.dropped.Load()}
}

// Run implements uplink.Sender: it listens and serves until ctx ends.
func (s *Sender) Run(ctx context.Context, p uplink.Program) error {
	h := &handler{sender: s, program: p}
	secure, err := s.config.tls()
	if err != nil {
		return err
	}
	server := &gortsplib.Server{Handler: h, RTSPAddress: s.config.Addr, TLSConfig: secure, WriteQueueSize: waiting,
		AuthMethods: []auth.VerifyMethod{auth.VerifyMethodDigestMD5}}
	if host, _, err := net.SplitHostPort(s.config.Addr); err == nil && s.config.RTPPort != 0 {
		server.UDPRTPAddress = net.JoinHostPort(host, strconv.Itoa(s.config.RTPPort))
		server.UDPRTCPAddress = net.JoinHostPort(host, strconv.Itoa(s.config.RTPPort+1))
	}
	h.server = server
	if err := server.Start(); err != nil {
		return fmt.Errorf("serve RTSP on %s: %w", s.config.Addr, err)
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cancel(fmt.Errorf("serve RTSP on %s: %w", s.config.Addr, server.Wait()))
	}()
	err = h.feed(inner)
	h.close()
	server.Close()
	<-ended
	s.players.Store(0)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// A handler answers the players of one run.
type handler struct {
	sender  *Sender
	program uplink.Program
	server  *gortsplib.Server
	packers []*packer // nil before the first picture
	conns   atomic.Int64

	mu      sync.Mutex
	stream  *gortsplib.ServerStream // nil before the first picture
	playing map[*gortsplib.ServerSession]bool
}

// feed brings packets to the players until ctx or the programme ends.
func (h *handler) feed(ctx context.Context) error {
	for {
		pkt, err := h.program.Packets.Pull(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		if h.packers == nil {
			if !pkt.Key || !h.program.Tracks[pkt.Track].Codec.Video() {
				continue // what players are told of the pictures is in a key frame
			}
			if err := h.open(pkt); err != nil {
				return err
			}
		}
		h.write(pkt)
	}
}

// open describes the programme, of which first is a key frame.
func (h *handler) open(first *media.Packet) error {
	desc := &description.Session{Title: "Gantry"}
	var packers []*packer
	for i, t := range h.program.Tracks {
		p, err := newPacker(t, 96+uint8(i), first.Data)
		if err != nil {
			return err
		}
		packers = append(packers, p)
		desc.Medias = append(desc.Medias, p.media)
	}
	stream := &gortsplib.ServerStream{Server: h.server, Desc: desc}
	if err := stream.Initialize(); err != nil {
		return fmt.Errorf("describe the programme: %w", err)
	}
	h.packers = packers
	h.mu.Lock()
	h.stream, h.playing = stream, map[*gortsplib.ServerSession]bool{}
	h.mu.Unlock()
	h.sender.log.Info("serving RTSP", "remote", h.sender.config.Addr, "path", h.sender.config.Path)
	if h.program.Connected != nil {
		h.program.Connected()
	}
	return nil
}

func (h *handler) write(pkt *media.Packet) {
	players := uint64(h.sender.players.Load())
	if players == 0 {
		return
	}
	p := h.packers[pkt.Track]
	list, err := p.pack(pkt.Data)
	if err != nil { // an access unit that the payload format cannot carry
		h.sender.dropped.Add(1)
		return
	}
	at, wall := p.ticks(pkt.PTS), h.program.Wall(pkt.PTS)
	for _, r := range list {
		r.Timestamp += at
		if err := h.stream.WritePacketRTPWithNTP(p.media, r, wall); err != nil {
			h.sender.dropped.Add(1)
			continue
		}
		h.sender.packets.Add(players)
		h.sender.bytes.Add(players * uint64(r.MarshalSize()))
	}
}

func (h *handler) close() {
	h.mu.Lock()
	stream := h.stream
	h.stream = nil
	h.mu.Unlock()
	if stream != nil {
		stream.Close()
	}
}

// OnConnOpen is called by gortsplib when somebody connects.
func (h *handler) OnConnOpen(ctx *gortsplib.ServerHandlerOnConnOpenCtx) {
	if h.conns.Add(1) > maxConns {
		ctx.Conn.Close()
	}
}

// OnConnClose is called by gortsplib when a connection has ended.
func (h *handler) OnConnClose(*gortsplib.ServerHandlerOnConnCloseCtx) { h.conns.Add(-1) }

// allow checks who asks for what. The stream is nil with the answer that says why not.
func (h *handler) allow(conn *gortsplib.ServerConn, req *base.Request, path string) (*base.Response, *gortsplib.ServerStream, error) {
	c := h.sender.config
	if c.User != "" && !conn.VerifyCredentials(req, c.User, c.Password.Reveal()) {
		return &base.Response{StatusCode: base.StatusUnauthorized}, nil, liberrors.ErrServerAuth{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stream == nil || path != "/"+c.Path && path != c.Path {
		return &base.Response{StatusCode: base.StatusNotFound}, nil, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, h.stream, nil
}

// OnDescribe is called by gortsplib.
func (h *handler) OnDescribe(ctx *gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	return h.allow(ctx.Conn, ctx.Request, ctx.Path)
}

// OnSetup is called by gortsplib.
func (h *handler) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	h.mu.Lock()
	full := len(h.playing) >= maxPlayers && !h.playing[ctx.Session]
	h.mu.Unlock()
	if full {
		return &base.Response{StatusCode: base.StatusServiceUnavailable}, nil, nil
	}
	return h.allow(ctx.Conn, ctx.Request, ctx.Path)
}

// OnPlay is called by gortsplib.
func (h *handler) OnPlay(ctx *gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	h.mu.Lock()
	if len(h.playing) >= maxPlayers && !h.playing[ctx.Session] {
		h.mu.Unlock()
		return &base.Response{StatusCode: base.StatusServiceUnavailable}, nil
	}
	h.playing[ctx.Session] = true
	h.sender.players.Store(int64(len(h.playing)))
	h.mu.Unlock()
	h.sender.log.Info("RTSP player", "remote", ctx.Conn.NetConn().RemoteAddr().String())
	h.program.Feedback(media.Feedback{KeyFrame: true})
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnSessionClose is called by gortsplib when a player has gone.
func (h *handler) OnSessionClose(ctx *gortsplib.ServerHandlerOnSessionCloseCtx) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.playing, ctx.Session)
	h.sender.players.Store(int64(len(h.playing)))
}

// OnStreamWriteError is called by gortsplib when a player takes too little.
func (h *handler) OnStreamWriteError(*gortsplib.ServerHandlerOnStreamWriteErrorCtx) {
	h.sender.dropped.Add(1)
	h.program.Feedback(media.Feedback{KeyFrame: true})
}
