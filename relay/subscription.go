package relay

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"gantry/media"
)

// A Subscription delivers one Stream's packets to one consumer, which may serve many viewers with them.
type Subscription struct {
	stream  *Stream
	form    *form
	queue   *media.Queue
	cached  []*media.Packet // handed out by the first Pull
	viewers atomic.Int64
}

// Tracks returns the tracks that Packet.Track indexes. They keep their codecs for the Subscription's life; a track that
// still has another Packing than was wanted delivers nothing.
func (s *Subscription) Tracks() []media.Track {
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	return slices.Clone(s.form.tracks)
}

// Pull waits for packets, appends all that wait to dst and returns it. The first call returns the cached packets since the
// last key frame, if there are any. It ends with ErrTracksChanged or ErrEnded. One goroutine calls it.
//
// A consumer that lags by more than Config.Queue finds the next video packet marked Lost, at a key frame.
func (s *Subscription) Pull(ctx context.Context, dst []*media.Packet) ([]*media.Packet, error) {
	if len(s.cached) > 0 {
		dst = append(dst, s.cached...)
		s.cached = nil
		return dst, nil
	}
	return s.queue.PullAll(ctx, dst)
}

// Ready delivers a value when Take has something to return, for a consumer that waits for other things too. Take once before
// the first wait.
func (s *Subscription) Ready() <-chan struct{} { return s.queue.Ready() }

// ReadyByUnit makes Ready tell of the beginning and the end of access units alone. Call it before the first wait.
func (s *Subscription) ReadyByUnit() {
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	s.queue.ReadyByUnit()
}

// Take is Pull without waiting: dst comes back as it was when nothing waits.
func (s *Subscription) Take(dst []*media.Packet) ([]*media.Packet, error) {
	if len(s.cached) > 0 {
		dst = append(dst, s.cached...)
		s.cached = nil
	}
	return s.queue.TakeAll(dst)
}

// Feedback asks the publisher for a key frame on behalf of whom this Subscription serves, of the tracks that it names;
// repeated requests are coalesced. Bitrate is not passed up: one slow viewer must not lower the quality of all.
func (s *Subscription) Feedback(f media.Feedback) {
	if !f.KeyFrame {
		return
	}
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	s.stream.askKeyFrame(f.Tracks, s.stream.hub.elapsed())
}

// Live tells whether somebody publishes the stream now.
func (s *Subscription) Live() bool {
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	return s.stream.active != nil
}

// Visible tells whether something goes on to be seen: somebody publishes the stream now, or its slate is shown.
func (s *Subscription) Visible() bool {
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	return s.stream.visible(s.form.want)
}

// Wall returns when the media of a track at pts was captured; false when the publisher has not said.
func (s *Subscription) Wall(track uint8, pts time.Duration) (time.Time, bool) {
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	a := s.stream.line.origin(track, pts)
	if a == nil || a.wall == nil {
		return time.Time{}, false
	}
	i := slices.Index(a.mapped, track)
	if i < 0 || a.wall[i].wall.IsZero() {
		return time.Time{}, false
	}
	return a.wall[i].wall.Add(pts - a.offset - a.wall[i].pts), true
}

// SetViewers tells how many viewers this Subscription serves now.
func (s *Subscription) SetViewers(n int) { s.viewers.Store(int64(n)) }

// Dropped returns how many packets this consumer was too slow for.
func (s *Subscription) Dropped() uint64 { return s.queue.Dropped() }

// Close ends the Subscription; a waiting Pull returns.
func (s *Subscription) Close() error {
	s.stream.mu.Lock()
	s.form.subs = slices.DeleteFunc(s.form.subs, func(o *Subscription) bool { return o == s })
	if f := s.form; len(f.subs) == 0 && s.stream.forms[f.want] == f {
		f.release()
		delete(s.stream.forms, f.want)
	}
	s.stream.mu.Unlock()
	s.queue.Close(ErrEnded)
	return nil
}
