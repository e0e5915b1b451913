package pipeline

import (
	"context"
	"slices"

	"gantry/media"
)

// Snapshot returns the next picture that goes to an encoder or would, the slate too; the caller owns it. A source that comes coded is
// decoded for it. It waits until ctx ends.
func (s *Session) Snapshot(ctx context.Context) (*media.Frame, error) {
	done := s.tracks.look()
	defer done()
	next := make(chan *media.Frame, 1)
	s.split.peek(next)
	select {
	case f := <-next:
		return f, nil
	case <-ctx.Done():
	}
	if !s.split.unpeek(next) { // it came just now
		return <-next, nil
	}
	return nil, context.Cause(ctx)
}

// peek has the next picture given to next as well, which has room for one.
func (s *splitter) peek(next chan *media.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peeks = append(s.peeks, next)
}

// unpeek takes back a peek, and tells whether it was still waiting.
func (s *splitter) unpeek(next chan *media.Frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.peeks, next)
	if i >= 0 {
		s.peeks = slices.Delete(s.peeks, i, i+1)
	}
	return i >= 0
}

// show gives f, which is lent, to those who peek.
func (s *splitter) show(f *media.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, next := range s.peeks {
		next <- f.Retain()
	}
	s.peeks = nil
}
