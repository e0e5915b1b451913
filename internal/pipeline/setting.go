package pipeline

import (
	"context"
	"sync"
)

// A setting holds a value that can be replaced while somebody works by it.
type setting[T any] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{} // closed when value is replaced
}

func newSetting[T any](v T) *setting[T] { return &setting[T]{value: v, changed: make(chan struct{})} }

func (s *setting[T]) get() (T, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value, s.changed
}

func (s *setting[T]) set(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = v
	close(s.changed)
	s.changed = make(chan struct{})
}

// follow calls run with the value, and again with each new one after the call before has ended. run works until its context
// ends.
func (s *setting[T]) follow(ctx context.Context, run func(context.Context, T)) {
	for ctx.Err() == nil {
		v, changed := s.get()
		inner, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(inner, v)
		}()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		cancel()
		<-done
	}
}
