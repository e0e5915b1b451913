package whep

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gantry/internal/proto/whip"
	"gantry/internal/rtc"
)

var errBye = errors.New("the viewer said goodbye")

// A session is one viewer as HTTP and ICE see it.
//
//	new ──▶ connecting ──DTLS──▶ playing (a viewer of its fan) ──DELETE, lost, bye, stream gone──▶ ended
type session struct {
	server *Server
	shard  *shard
	fan    *fan
	who    Viewer
	peer   *rtc.Peer
	plan   plan
	log    *slog.Logger

	life
	viewer atomic.Pointer[viewer]

	mu sync.Mutex
	told
	selection selection
}

// life is how a session begins and ends.
type life struct {
	start  sync.Once
	ctx    context.Context
	cancel context.CancelCauseFunc
	over   atomic.Bool   // ctx has ended; asked for in each round of the fan
	done   chan struct{} // closed when all is given back
}

// told is what a session's peer has shown of itself.
type told struct {
	path    rtc.Path // known before there is a viewer
	quality Quality
}

// A Viewer is what the server knows of one session.
type Viewer struct {
	Stream, Session, Remote string // Session as logs have it
	Since                   time.Time
	Quality                 Quality
}

// Quality is what a viewer last reported about its video, or about its sound when it sees none.
type Quality struct {
	Lost   float64       // share of packets, 0 to 1
	Jitter time.Duration // of arrival
	RTT    time.Duration // 0: not known
}

// newSession makes a session for plan; go connects it.
func (s *Server) newSession(f *fan, who Viewer, log *slog.Logger) (*session, error) {
	v := &session{server: s, fan: f, who: who, log: log, life: life{done: make(chan struct{})}, selection: selection{track: -1}}
	ctx, cancel := context.WithCancelCause(context.Background())
	v.ctx, v.cancel = ctx, func(err error) {
		v.over.Store(true)
		cancel(err)
	}
	peer, err := s.port.NewPeer(rtc.Events{Connected: v.connected, Path: v.moved, RTCP: v.hear, Turn: s.gate.enter})
	if err != nil {
		return nil, err
	}
	v.peer = peer
	return v, nil
}

// connect starts the session with the client's parameters. It may be called once.
func (s *session) connect(remote rtc.Parameters) {
	s.start.Do(func() {
		s.server.work.Go(func() {
			err := s.peer.Run(s.ctx, remote)
			s.finish(err)
		})
	})
}

// finish gives back what the session held, after its peer.
func (s *session) finish(err error) {
	s.fan.do(true, func() { // behind the task that joins, if there is one: only the loop knows
		if v := s.viewer.Load(); v != nil {
			s.fan.leave(v)
		}
	})
	if cause := context.Cause(s.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	s.cancel(nil)
	s.server.forget(s)
	s.log.Info("viewer left", "reason", err)
	close(s.done)
}

// connected runs when media may be sent.
func (s *session) connected(keys rtc.Keys) {
	sealer, err := keys.Sealer()
	if err == nil {
		v := &viewer{session: s, sealer: sealer}
		if v.rtcp, err = keys.SealRTCP(); err == nil {
			s.log.Info("viewer joined", "srtp", keys.String())
			s.join(v)
			return
		}
	}
	s.end(err)
}

func (s *session) join(v *viewer) {
	s.fan.do(true, func() {
		v.out = make([]*outTrack, len(s.fan.media.tracks))
		for _, m := range s.plan.sections {
			if m.track < 0 {
				continue
			}
			o := newOutTrack(m, s.fan.media.tracks[m.track])
			if m.kind == "video" {
				for _, i := range m.layers {
					v.layers = append(v.layers, s.fan.media.tracks[i])
				}
			}
			o.startAt(o.history.next)
			v.out[m.track] = o
			if o.history.track.Codec.Video() {
				v.video = o
			}
			if m.transportID != 0 {
				v.link.estimate = newEstimator(time.Now())
			}
		}
		s.selection.mu.Lock()
		v.wish = s.selection.wish
		s.selection.mu.Unlock()
		s.fan.join(v)
		if v.video != nil {
			s.selection.set(slices.Index(s.fan.media.tracks, v.video.history))
		}
		s.viewer.Store(v)
		s.mu.Lock()
		v.path = s.path // moved sees to those that come after Store
		s.mu.Unlock()
	})
}

// moved runs when ICE has selected a path.
func (s *session) moved(p rtc.Path) {
	s.mu.Lock()
	s.path = p
	s.mu.Unlock()
	if v := s.viewer.Load(); v != nil {
		s.fan.do(true, func() { v.take(p) })
	}
}

func (s *session) noteQuality(video bool, q Quality) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if video || s.plan.audioOnly() {
		s.quality = q
	}
}

// end ends the session because of err, without waiting.
func (s *session) end(err error) { s.cancel(err) }

// Trickle implements whip.Session.
func (s *session) Trickle(f whip.Fragment) error {
	for _, c := range f.Candidates {
		s.peer.AddCandidate(c.Value)
	}
	return nil
}

// Restart implements whip.Session.
func (s *session) Restart(f whip.Fragment) (whip.Fragment, error) {
	remote := rtc.Parameters{Ufrag: f.Ufrag, Pwd: f.Pwd}
	for _, c := range f.Candidates {
		remote.Candidates = append(remote.Candidates, c.Value)
	}
	local, err := s.peer.Restart(remote)
	if err != nil {
		return whip.Fragment{}, err
	}
	s.log.Info("viewer restarts ICE")
	reply := whip.Fragment{Ufrag: local.Ufrag, Pwd: local.Pwd, Lite: s.server.port.Lite(), End: true}
	for _, c := range local.Candidates {
		reply.Candidates = append(reply.Candidates, whip.Candidate{MID: s.plan.bundleMID(), Value: c})
	}
	return reply, nil
}

// Answer implements whip.Answerer.
func (s *session) Answer(sdp string) error {
	if !s.plan.counter {
		return whip.Errorf(422, "this session was not opened by an offer of ours")
	}
	s.mu.Lock() // extensions read the plan
	remote, err := s.plan.accept(sdp)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.connect(remote)
	return nil
}

// Close implements whip.Session.
func (s *session) Close() error {
	s.cancel(context.Canceled)
	s.start.Do(func() { // never connected
		_ = s.peer.Close()
		s.finish(nil)
	})
	<-s.done
	return nil
}

// Done implements whip.Session.
func (s *session) Done() <-chan struct{} { return s.done }
