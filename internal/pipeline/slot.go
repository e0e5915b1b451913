package pipeline

import (
	"context"
	"sync"

	"gantry/media"
)

// A slot holds the one picture that waits for the encoder: the newest.
type slot struct {
	rendition string // of the encode that takes from it
	ready     chan struct{}

	mu       sync.Mutex
	frame    *media.Frame
	key      bool // frame, or one that it replaced, shall become a key frame
	replaced uint64
}

func newSlot() *slot { return &slot{ready: make(chan struct{}, 1)} }

// put takes over f, which with key shall become a key frame. A picture that still waits is given back and counted.
func (s *slot) put(f *media.Frame, key bool) {
	s.mu.Lock()
	old := s.frame
	s.frame, s.key = f, s.key || key
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

// take waits for a picture, which the caller then owns, and tells whether it shall become a key frame.
func (s *slot) take(ctx context.Context) (f *media.Frame, key bool, err error) {
	for {
		s.mu.Lock()
		f = s.frame
		s.frame = nil
		if f != nil {
			key, s.key = s.key, false
		}
		s.mu.Unlock()
		if f != nil {
			return f, key, nil
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
