package pipeline

import (
	"context"
	"sync"

	"gantry/media"
)

// A slot holds the one picture that waits for the encoder: the newest.
type slot struct {
	ready chan struct{}

	mu       sync.Mutex
	frame    *media.Frame
	cut      bool // frame, or one that it replaced, is the first of another scene
	replaced uint64
}

func newSlot() *slot { return &slot{ready: make(chan struct{}, 1)} }

// put takes over f. A picture that still waits is given back and counted. With cut, f has nothing in common with the pictures
// before.
func (s *slot) put(f *media.Frame, cut bool) {
	s.mu.Lock()
	old := s.frame
	s.frame, s.cut = f, s.cut || cut
	if old != nil {
		s.replaced++
	}
	s.mu.Unlock()
	if old != nil {
		old.Release()
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// take waits for a picture, which the caller then owns, and tells whether it follows a cut.
func (s *slot) take(ctx context.Context) (f *media.Frame, cut bool, err error) {
	for {
		s.mu.Lock()
		f = s.frame
		s.frame = nil
		if f != nil {
			cut, s.cut = s.cut, false
		}
		s.mu.Unlock()
		if f != nil {
			return f, cut, nil
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// clear gives back a picture that waits, so that its source can close.
func (s *slot) clear() {
	s.mu.Lock()
	f := s.frame
	s.frame = nil
	s.mu.Unlock()
	if f != nil {
		f.Release()
	}
}

func (s *slot) dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replaced
}
