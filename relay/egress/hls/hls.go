// Package hls serves streams as Low-Latency HLS (RFC 8216bis) from memory, for audiences that no relay could serve one by one:
// any HTTP cache may stand in front. The segments are gohlslib's.
//
//	GET /hls/{stream}/index.m3u8
//
// A stream is packaged while somebody asks for it. The sound is AAC where this relay can make it so, else as it is published.
package hls

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluenviron/gohlslib/v2"
	"github.com/bluenviron/gohlslib/v2/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"

	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
	"gantry/relay/access"
	"gantry/relay/egress"
)

// Prefix is where the Server is served.
const Prefix = "/hls/"

// idle is how long a stream is packaged after the last request for it.
const idle = 30 * time.Second

// maxSegment bounds one segment in bytes; seven are kept of each track.
const maxSegment = 16 << 20

// errNothing: no track can go into HLS.
var errNothing = errors.New("HLS carries H.264, H.265, AV1, AAC and Opus, and the stream has none of them")

// A Server is an http.Handler for all below Prefix. Close it after its HTTP server.
type Server struct {
	hub       *relay.Hub
	authorize func(token, stream string) error
	log       *slog.Logger
	ctx       context.Context
	stop      context.CancelFunc
	work      sync.WaitGroup

	mu      sync.Mutex
	streams map[string]*packager
}

// New returns a Server for the streams of hub. authorize is asked for each request's play token; nil lets everybody watch.
func New(hub *relay.Hub, authorize func(token, stream string) error, log *slog.Logger) *Server {
	s := &Server{hub: hub, authorize: authorize, log: log, streams: map[string]*packager{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close ends all packaging; requests that wait for a segment are answered.
func (s *Server) Close() error {
	s.stop()
	s.work.Wait()
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodOptions {
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Range")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, Prefix)
	i := strings.LastIndexByte(path, '/')
	if r.Method != http.MethodGet && r.Method != http.MethodHead || i < 0 || !relay.ValidName(path[:i]) {
		http.NotFound(w, r)
		return
	}
	stream, file := path[:i], path[i+1:]
	if s.authorize != nil {
		if err := s.authorize(access.Token(r), stream); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	p, err := s.packager(stream, file == "index.m3u8")
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	answer := &answered{ResponseWriter: w}
	if p.muxer.Handle(answer, r); !answer.begun { // gohlslib is silent about what it does not have
		http.NotFound(w, r)
	}
}

// answered notes whether anything was answered.
type answered struct {
	http.ResponseWriter
	begun bool
}

func (a *answered) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

func (a *answered) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
}

// packager returns the one of the stream; start makes it where there is none.
func (s *Server) packager(stream string, start bool) (*packager, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.streams[stream]
	if p == nil {
		if !start || s.ctx.Err() != nil {
			return nil, relay.ErrNoStream
		}
		var err error
		if p, err = newPackager(s.hub, stream, s.log); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(s.ctx)
		p.unused = time.AfterFunc(idle, cancel)
		s.streams[stream] = p
		s.work.Go(func() {
			defer cancel()
			err := p.run(ctx)
			s.log.Info("stream is no longer packaged as HLS", "stream", stream, "reason", err)
			s.mu.Lock()
			delete(s.streams, stream)
			s.mu.Unlock()
		})
	}
	p.unused.Reset(idle)
	return p, nil
}

// A packager makes the segments of one stream.
type packager struct {
	sub    *relay.Subscription
	muxer  *gohlslib.Muxer
	tracks []*gohlslib.Track // by the Subscription's; nil: left out
	codecs []media.Codec
	unused *time.Timer
}

func newPackager(hub *relay.Hub, stream string, log *slog.Logger) (*packager, error) {
	sub, err := egress.Subscribe(hub, stream)
	if err != nil {
		return nil, err
	}
	p := &packager{sub: sub}
	tracks := sub.Tracks()
	_, places := egress.Choose(tracks) // of several renditions one
	var carried []*gohlslib.Track
	for i, t := range tracks {
		var out *gohlslib.Track
		if c := codec(t); c != nil && places[i] >= 0 {
			out = &gohlslib.Track{Codec: c, ClockRate: t.ClockRate}
			carried = append(carried, out)
		}
		p.tracks, p.codecs = append(p.tracks, out), append(p.codecs, t.Codec)
	}
	if len(carried) == 0 {
		_ = sub.Close()
		return nil, errNothing
	}
	p.muxer = &gohlslib.Muxer{Tracks: carried, Variant: gohlslib.MuxerVariantLowLatency, SegmentMaxSize: maxSegment,
		OnEncodeError: func(err error) { log.Debug("access unit left out of HLS", "stream", stream, "reason", err) }}
	if err := p.muxer.Start(); err != nil {
		_ = sub.Close()
		return nil, fmt.Errorf("package as HLS: %w", err)
	}
	sub.SetViewers(1)
	log.Info("stream is packaged as HLS", "stream", stream)
	return p, nil
}

func codec(t media.Track) codecs.Codec {
	switch t.Codec {
	case media.H264:
		return &codecs.H264{}
	case media.H265:
		return &codecs.H265{}
	case media.AV1:
		return &codecs.AV1{}
	case media.Opus:
		return &codecs.Opus{ChannelCount: max(t.Channels, 1)}
	case media.AAC:
		b, err := hex.DecodeString(t.Profile)
		var c codecs.MPEG4Audio
		if err != nil || c.Config.Unmarshal(b) != nil {
			return nil
		}
		return &c
	}
	return nil
}

// run packages until ctx or the stream ends.
func (p *packager) run(ctx context.Context) error {
	defer p.unused.Stop()
	defer p.sub.Close()
	defer p.muxer.Close()
	var packets []*media.Packet
	for {
		var err error
		if packets, err = p.sub.Pull(ctx, packets[:0]); err != nil {
			return err
		}
		for _, packet := range packets {
			if err := p.write(packet); err != nil {
				return err
			}
		}
	}
}

func (p *packager) write(packet *media.Packet) error {
	t := p.tracks[packet.Track]
	if t == nil {
		return nil
	}
	wall, ok := p.sub.Wall(packet.Track, packet.PTS)
	if !ok {
		wall = time.Now()
	}
	hz := int64(t.ClockRate)
	pts := int64(packet.PTS/time.Second)*hz + int64(packet.PTS%time.Second)*hz/int64(time.Second)
	switch p.codecs[packet.Track] {
	case media.H264:
		return p.muxer.WriteH264(t, wall, pts, slices.Collect(h264.NALUs(packet.Data)))
	case media.H265:
		return p.muxer.WriteH265(t, wall, pts, slices.Collect(h264.NALUs(packet.Data))) // the same byte stream format
	case media.AV1:
		var unit av1.Bitstream
		if err := unit.Unmarshal(packet.Data); err != nil {
			return nil // one picture less
		}
		return p.muxer.WriteAV1(t, wall, pts, unit)
	case media.Opus:
		return p.muxer.WriteOpus(t, wall, pts, [][]byte{packet.Data})
	}
	return p.muxer.WriteMPEG4Audio(t, wall, pts, [][]byte{packet.Data})
}
