package whep

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"time"

	"gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/media"
	"gantry/relay"
)

// Config is the server's. The value is comparable.
type Config struct {
	Shards     int           // fans of one stream at most; 0: one for each core
	RetryAfter time.Duration // told to players when a stream is not live
	// PlayoutDelay is the most that players hold a picture back against jitter; they begin with none. 0 leaves it to them.
	PlayoutDelay time.Duration
}

// Default returns the configuration that suits a machine that does little else.
func Default() Config {
	return Config{RetryAfter: 2 * time.Second, PlayoutDelay: 500 * time.Millisecond}
}

// Validate names the key that is out of range.
func (c Config) Validate() error {
	switch {
	case c.Shards < 0 || c.Shards > 256:
		return errors.New("shards: want 0 to 256")
	case c.RetryAfter < time.Second || c.RetryAfter > time.Minute:
		return errors.New("retryAfter: want 1s to 1m")
	case c.PlayoutDelay < 0 || c.PlayoutDelay > 40*time.Second || c.PlayoutDelay%playoutUnit != 0:
		return errors.New("playout-delay: want 0s to 40s in steps of 10ms")
	}
	return nil
}

// viewersPerFan is how many viewers one loop takes before a stream gets another.
const viewersPerFan = 48

// Stats count what a Server has done.
type Stats struct {
	Viewers        int
	Packets, Bytes uint64 // of RTP, with headers and tags
	Dropped        uint64 // times a viewer was set back to the next key frame because it took no more
	Refused        uint64 // packets that the socket had no room for
	NACKs          uint64
	Retransmitted  uint64
	PLIs           uint64
	Probes         uint64 // packets sent again to find out what a path carries
	Thinned        uint64 // times a viewer was given key frames alone because its path carries no more
	KeyFramesAsked uint64
	Calls          uint64 // system calls that sent
}

func (s *Stats) add(o Stats) {
	s.Viewers += o.Viewers
	s.Packets += o.Packets
	s.Bytes += o.Bytes
	s.Dropped += o.Dropped
	s.Refused += o.Refused
	s.NACKs += o.NACKs
	s.Retransmitted += o.Retransmitted
	s.PLIs += o.PLIs
	s.Probes += o.Probes
	s.Thinned += o.Thinned
	s.KeyFramesAsked += o.KeyFramesAsked
	s.Calls += o.Calls
}

// A Server is the WHEP endpoint: an http.Handler for /whep/{stream} and the sessions below. Close it after its HTTP server.
type Server struct {
	cfg  Config
	hub  *relay.Hub
	port *rtc.Port
	log  *slog.Logger
	http *whip.Endpoint
	gate gate
	work sync.WaitGroup
	ctx  context.Context // ends the fans
	stop context.CancelFunc

	mu     sync.Mutex
	fans   map[string][]*shard
	past   Stats // of fans that are gone
	closed bool
}

// A shard is a fan with the sessions that belong to it.
type shard struct {
	fan      *fan
	sessions map[*session]struct{}
	unused   *time.Timer // ends it; nil while somebody uses it
}

// Access are the questions about tokens that the server leaves to others. Both may be nil.
type Access struct {
	Authorize  func(token, stream string) error
	ICEServers func(token, stream string) []whip.Link
	Limits     whip.Limits
}

// New returns a Server for the streams of hub that sends by port. It owns neither.
func New(cfg Config, hub *relay.Hub, port *rtc.Port, access Access, log *slog.Logger) *Server {
	if cfg.Shards == 0 {
		cfg.Shards = runtime.GOMAXPROCS(0)
	}
	s := &Server{cfg: cfg, hub: hub, port: port, log: log, gate: newGate(), fans: map[string][]*shard{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = whip.NewEndpoint(whip.Options{Prefix: "/whep/", Log: log, Accept: s.accept,
		Authorize: access.Authorize, ICEServers: access.ICEServers, Limits: access.Limits})
	return s
}

// ServeHTTP answers a request for /whep/….
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.http.ServeHTTP(w, r) }

// Stats returns the counters of all streams, some milliseconds old.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.past
	for _, shards := range s.fans {
		for _, sh := range shards {
			sh.fan.mu.Lock()
			sum.add(sh.fan.stats)
			sh.fan.mu.Unlock()
		}
	}
	return sum
}

// Viewers returns the open sessions of a stream, or of all streams when it is empty, in no order.
func (s *Server) Viewers(stream string) []Viewer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Viewer
	for name, shards := range s.fans {
		if stream != "" && name != stream {
			continue
		}
		for _, sh := range shards {
			for v := range sh.sessions {
				v.mu.Lock()
				who := v.who
				who.Quality = v.quality
				v.mu.Unlock()
				out = append(out, who)
			}
		}
	}
	return out
}

// Close ends all sessions and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.http.Close()
	s.stop()
	s.work.Wait()
	return err
}

// accept answers an offer.
func (s *Server) accept(ctx context.Context, o whip.Offer) (whip.Answer, error) {
	if !relay.ValidName(o.Stream) {
		return whip.Answer{}, whip.Errorf(http.StatusNotFound, "%v", relay.ErrName)
	}
	leave, err := s.gate.post(ctx)
	if err != nil {
		return whip.Answer{}, err
	}
	defer leave()
	log := s.log.With("stream", o.Stream, "session", o.Session, "remote", o.Remote.String())
	sh, err := s.attach(o.Stream)
	if err != nil {
		return whip.Answer{}, err
	}
	v, err := s.newSession(sh.fan, Viewer{Stream: o.Stream, Session: o.Session, Remote: o.Remote.String(), Since: time.Now()}, log)
	if err != nil {
		s.release(o.Stream, sh)
		return whip.Answer{}, err
	}
	s.enter(sh, v)
	answer, err := v.negotiate(o.SDP)
	if err != nil {
		_ = v.Close()
		return whip.Answer{}, err
	}
	return answer, nil
}

// negotiate answers the client's offer, or makes one of our own when its does not fit (draft-ietf-wish-whep §4.2).
func (s *session) negotiate(offer string) (whip.Answer, error) {
	local, err := s.peer.Local()
	if err != nil {
		return whip.Answer{}, err
	}
	tracks := s.fan.sub.Tracks()
	p, remote, err := answerPlan(offer, tracks)
	if mismatch := (*mismatchError)(nil); errors.As(err, &mismatch) {
		if p, err = offerPlan(tracks); err != nil {
			return whip.Answer{}, whip.Errorf(http.StatusUnprocessableEntity, "%s; and %v", mismatch.reason, err)
		}
		s.log.Info("viewer gets a counter-offer", "reason", mismatch.reason)
	}
	if err != nil {
		return whip.Answer{}, err
	}
	p.bound(s.server.cfg.PlayoutDelay)
	s.plan = p
	sdp, err := p.sdp(local, s.server.port.Lite())
	if err != nil {
		return whip.Answer{}, err
	}
	if p.counter {
		s.peer.Control()
	} else {
		s.connect(remote)
	}
	return whip.Answer{SDP: sdp, Session: s, Counter: p.counter}, nil
}

// attach returns the shard of the stream that the next viewer is to join, and counts it as used.
func (s *Server) attach(stream string) (*shard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, whip.Errorf(http.StatusServiceUnavailable, "shutting down")
	}
	var best *shard
	for _, sh := range s.fans[stream] {
		if best == nil || len(sh.sessions) < len(best.sessions) {
			best = sh
		}
	}
	if best == nil || len(best.sessions) >= viewersPerFan && len(s.fans[stream]) < s.cfg.Shards {
		sh, err := s.addShard(stream)
		if err != nil {
			return nil, err
		}
		best = sh
	} else if !best.fan.sub.Visible() {
		return nil, s.notLive(relay.ErrNoStream)
	}
	if best.unused != nil {
		best.unused.Stop()
		best.unused = nil
	}
	best.fan.do(true, best.fan.prepare)
	return best, nil
}

func (s *Server) notLive(err error) error {
	return &whip.Error{Status: http.StatusConflict, Reason: err.Error(), RetryAfter: s.cfg.RetryAfter}
}

func (s *Server) addShard(stream string) (*shard, error) {
	sub, err := s.hub.Subscribe(stream, relay.Want{Packing: media.RTP, Audio: media.Opus})
	if err != nil {
		return nil, s.notLive(err)
	}
	f, err := newFan(sub, s.port, s.log)
	if err != nil {
		_ = sub.Close()
		return nil, err
	}
	sh := &shard{fan: f, sessions: map[*session]struct{}{}}
	s.fans[stream] = append(s.fans[stream], sh)
	ctx, cancel := context.WithCancel(s.ctx)
	sh.fan.cancel = cancel
	s.work.Go(func() {
		defer cancel()
		err := f.run(ctx)
		s.ended(stream, sh, err)
	})
	return sh, nil
}

// ended takes a shard out whose loop has ended, and ends its sessions.
func (s *Server) ended(stream string, sh *shard, err error) {
	s.mu.Lock()
	s.remove(stream, sh)
	sh.fan.stats.Viewers = 0
	s.past.add(sh.fan.stats)
	if sh.unused != nil {
		sh.unused.Stop()
	}
	sessions := sh.sessions
	sh.sessions = map[*session]struct{}{}
	s.mu.Unlock()
	for v := range sessions {
		v.end(err)
	}
}

func (s *Server) remove(stream string, sh *shard) {
	shards := s.fans[stream]
	for i, o := range shards {
		if o == sh {
			shards = append(shards[:i:i], shards[i+1:]...)
			break
		}
	}
	if len(shards) == 0 {
		delete(s.fans, stream)
	} else {
		s.fans[stream] = shards
	}
}

// enter counts v among sh's sessions, forget takes it out again, by whatever way it ended.
func (s *Server) enter(sh *shard, v *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh.sessions[v] = struct{}{}
	v.shard = sh
}

func (s *Server) forget(v *session) {
	s.mu.Lock()
	delete(v.shard.sessions, v)
	s.mu.Unlock()
	s.release(v.who.Stream, v.shard)
}

// release lets a shard end when nobody has used it for a while.
func (s *Server) release(stream string, sh *shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(sh.sessions) > 0 || sh.unused != nil || s.closed {
		return
	}
	sh.unused = time.AfterFunc(linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(sh.sessions) == 0 && sh.unused != nil {
			s.remove(stream, sh) // no new viewer from here on
			sh.fan.cancel()
		}
	})
}
