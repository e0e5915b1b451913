// Package rtmp takes RTMP and RTMPS in, enhanced RTMP with H.265, AV1 and Opus included, by bluenviron's gortmplib.
//
// The URL is rtmp://HOST/[live/]STREAM?token=TOKEN; encoders that ask for server and key get rtmp://HOST/live and
// STREAM?token=TOKEN. It does not play: viewers have WHEP.
package rtmp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"

	"gantry/media"
	"gantry/relay"
	"gantry/relay/ingest"
)

const (
	maxConns         = 256              // connections held at once
	handshakeTimeout = 10 * time.Second // until the stream is named
	idleTimeout      = 10 * time.Second // without a byte; a still picture sends some all the same
)

// ErrNothingUsable: the publisher sends no track that Gantry carries.
var ErrNothingUsable = errors.New("no H.264, H.265, AV1, AAC or Opus track")

// A Server publishes what RTMP clients send on one port.
type Server struct {
	hub       *relay.Hub
	authorize func(token, stream string) error
	log       *slog.Logger
	listener  net.Listener
	conns     sync.WaitGroup
	slots     chan struct{}
	publisher atomic.Int64
	refused   atomic.Uint64
	bytes     atomic.Uint64
}

// Stats count what a Server has done since it began.
type Stats struct {
	Publishers int    // now
	Refused    uint64 // clients, those that never said what they want included
	Bytes      uint64 // received, with RTMP's headers
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{Publishers: int(s.publisher.Load()), Refused: s.refused.Load(), Bytes: s.bytes.Load()}
}

// counted adds up what is read.
type counted struct {
	net.Conn
	bytes *atomic.Uint64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(uint64(n))
	return n, err
}

// Listen opens the port: RTMPS with a TLS configuration, else RTMP. authorize is asked for each publisher's token; nil lets
// everybody publish.
func Listen(addr string, tlsConfig *tls.Config, hub *relay.Hub, authorize func(token, stream string) error, log *slog.Logger) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for RTMP on %s: %w", addr, err)
	}
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	return &Server{hub: hub, authorize: authorize, log: log, listener: l, slots: make(chan struct{}, maxConns)}, nil
}

// Addr returns the address that the Server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends and returns after the last connection.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer func() {
		if stop() {
			s.listener.Close()
		}
		s.conns.Wait()
	}()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept RTMP clients: %w", err)
		}
		select {
		case s.slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		s.conns.Go(func() {
			defer func() { <-s.slots }()
			defer conn.Close()
			done := context.AfterFunc(ctx, func() { conn.Close() })
			defer done()
			s.serve(counted{conn, &s.bytes})
		})
	}
}

func (s *Server) serve(conn net.Conn) {
	log := s.log.With("remote", conn.RemoteAddr().String())
	var stream string
	var p relay.Publisher
	var rtmp *gortmplib.ServerConn
	err := ingest.Guard(log, func() (err error) {
		stream, p, rtmp, err = s.open(conn)
		return err
	})
	if err != nil {
		s.refused.Add(1)
		if !errors.Is(err, io.EOF) { // a port scan
			log.Warn("RTMP publisher refused", "stream", stream, "reason", err)
		}
		return
	}
	s.publisher.Add(1)
	defer s.publisher.Add(-1)
	if err := ingest.Guard(log, func() error { return s.publish(conn, rtmp, stream, p, log) }); err != nil && !errors.Is(err, io.EOF) {
		log.Info("RTMP publisher left", "stream", stream, "reason", err)
	}
}

// open shakes hands and answers what the client asks for.
func (s *Server) open(conn net.Conn) (string, relay.Publisher, *gortmplib.ServerConn, error) {
	p := relay.Publisher{Protocol: "rtmp", Remote: conn.RemoteAddr().String()}
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return "", p, nil, err
	}
	rtmp := &gortmplib.ServerConn{RW: conn}
	if err := rtmp.Initialize(); err != nil {
		return "", p, nil, err
	}
	if err := rtmp.AcceptConn(); err != nil {
		return "", p, nil, err
	}
	stream, token, said := Address(rtmp.URL)
	described := ingest.Describe(&p, said)
	err := func() error {
		if !rtmp.Publish {
			return errors.New("this port only takes publishers; play over WHEP")
		}
		if !relay.ValidName(stream) {
			return relay.ErrName
		}
		if described != nil {
			return described
		}
		if s.authorize != nil {
			return s.authorize(token, stream)
		}
		return nil
	}()
	if err != nil {
		return stream, p, nil, errors.Join(err, rtmp.RejectAction())
	}
	return stream, p, rtmp, rtmp.AcceptAction()
}

// Address reads stream name, token and what else was said from the URL that a client gave. The application "live" and the path
// "v2/pub", which encoders' presets put first, are no part of the name.
func Address(u *url.URL) (stream, token string, said url.Values) {
	path := strings.Trim(u.Path, "/")
	query := u.RawQuery
	if u.Fragment != "" {
		path = strings.Trim(path+"/"+u.Fragment, "/")
	}
	if p, q, ok := strings.Cut(path, "?"); ok {
		path, query = strings.Trim(p, "/"), q
	}
	for _, prefix := range []string{"live/", "v2/pub/"} {
		if p, ok := strings.CutPrefix(path, prefix); ok {
			path = p
			break
		}
	}
	said, _ = url.ParseQuery(query)
	token = said.Get("token")
	if token == "" {
		token = said.Get("auth")
	}
	return path, token, said
}

// ignore takes what comes of a track and drops it; the library calls a handler whether there is one or not.
func ignore(r *gortmplib.Reader, t *gortmplib.Track) {
	drop := func(time.Duration, []byte) {}
	switch t.Codec.(type) {
	case *codecs.VP9:
		r.OnDataVP9(t, drop)
	case *codecs.MPEG1Audio:
		r.OnDataMPEG1Audio(t, drop)
	case *codecs.FLAC:
		r.OnDataFLAC(t, drop)
	case *codecs.AC3:
		r.OnDataAC3(t, drop)
	case *codecs.G711:
		r.OnDataG711(t, drop)
	case *codecs.LPCM:
		r.OnDataLPCM(t, drop)
	}
}

// publish reads tracks and media until the connection or the publication ends.
func (s *Server) publish(conn net.Conn, rtmp *gortmplib.ServerConn, stream string, p relay.Publisher, log *slog.Logger) error {
	pub := &publication{server: s, conn: conn, stream: stream, publisher: p, log: log, release: func() {}}
	defer func() { pub.release() }()
	for from := watch(rtmp); ; {
		if err := pub.read(from); !errors.Is(err, errChanged) {
			return err
		}
		log.Info("RTMP publisher changes its tracks", "stream", stream)
	}
}

// A publication is what one connection publishes, through all changes of its tracks.
type publication struct {
	server    *Server
	conn      net.Conn
	stream    string
	publisher relay.Publisher
	log       *slog.Logger
	clock     clock
	feed      *ingest.Feed // nil before the tracks are known
	release   func()       // closes the feed
}

// read reads tracks and media until they change, which is errChanged, or the connection or the feed ends.
func (p *publication) read(from *watched) error {
	if err := p.conn.SetDeadline(time.Now().Add(idleTimeout)); err != nil {
		return err
	}
	r, err := from.find()
	if err != nil {
		return fmt.Errorf("find the tracks: %w", err)
	}
	tracks, sets, err := p.choose(r)
	if err != nil {
		return err
	}
	if err := p.enter(tracks); err != nil {
		return err
	}
	for i, sets := range sets {
		p.feed.Video(i, 0, 0, sets)
	}
	for {
		if err := p.conn.SetDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		if err := r.Read(); err != nil {
			if gone := p.feed.Err(); gone != nil {
				return gone
			}
			return err
		}
	}
}

// choose takes the tracks that can be carried, and returns the parameter sets of each that RTMP tells apart from the media.
func (p *publication) choose(r *gortmplib.Reader) (tracks []media.Track, sets map[int][][]byte, err error) {
	sets = map[int][][]byte{}
	for _, t := range r.Tracks() {
		i := len(tracks)
		video := func(pts, dts time.Duration, au [][]byte) {
			at := p.clock.at(dts)
			p.feed.Video(i, at+pts-dts, at, au)
		}
		switch c := t.Codec.(type) {
		case *codecs.H264:
			tracks = append(tracks, media.Track{Codec: media.H264, ClockRate: 90000})
			sets[i] = [][]byte{c.SPS, c.PPS}
			r.OnDataH264(t, video)
		case *codecs.H265:
			tracks = append(tracks, media.Track{Codec: media.H265, ClockRate: 90000})
			sets[i] = [][]byte{c.VPS, c.SPS, c.PPS}
			r.OnDataH265(t, video)
		case *codecs.AV1:
			tracks = append(tracks, media.Track{Codec: media.AV1, ClockRate: 90000})
			r.OnDataAV1(t, func(pts time.Duration, tu [][]byte) { p.feed.AV1(i, p.clock.at(pts), tu) })
		case *codecs.MPEG4Audio:
			if c.Config == nil {
				r.OnDataMPEG4Audio(t, func(time.Duration, []byte) {})
				continue
			}
			conf, err := c.Config.Marshal()
			if err != nil {
				return nil, nil, fmt.Errorf("AAC configuration: %w", err)
			}
			tracks = append(tracks, media.Track{Codec: media.AAC, ClockRate: c.Config.SampleRate, Channels: c.Config.ChannelCount, Profile: fmt.Sprintf("%x", conf)})
			r.OnDataMPEG4Audio(t, func(pts time.Duration, au []byte) { p.feed.Audio(i, p.clock.at(pts), au) })
		case *codecs.Opus:
			tracks = append(tracks, media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2})
			r.OnDataOpus(t, func(pts time.Duration, packet []byte) { p.feed.Audio(i, p.clock.at(pts), packet) })
		default:
			ignore(r, t)
			p.log.Warn("track left out", "stream", p.stream, "codec", fmt.Sprintf("%T", c), "reason", "Gantry does not carry it")
		}
	}
	if len(tracks) == 0 {
		return nil, nil, ErrNothingUsable
	}
	return tracks, sets, nil
}

// enter publishes tracks, unless they are published already.
func (p *publication) enter(tracks []media.Track) (err error) {
	changed := p.feed != nil
	if !changed || !slices.Equal(tracks, p.publisher.Tracks) {
		p.release()
		p.release = func() {}
		p.publisher.Tracks = tracks
		if p.feed, err = ingest.NewFeed(p.server.hub, p.stream, p.publisher); err != nil {
			return err
		}
		p.hold(p.feed)
	}
	if changed {
		p.feed.Fault("programme", "the publisher changed its tracks while it was sending: viewers wait for the next key frame, and come anew where codecs changed")
	}
	return nil
}

// hold has the end of the feed, by a newer publisher or the Hub, end the connection, until release.
func (p *publication) hold(f *ingest.Feed) {
	quit := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		select {
		case <-f.Done():
			p.conn.Close()
		case <-quit:
		}
	})
	p.release = func() {
		close(quit)
		work.Wait()
		f.Close()
	}
}
