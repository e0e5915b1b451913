package whep

import (
	"runtime"
	"weak"

	"gantry/internal/rtc"
)

// Hold stops the loop of a stream's first fan until release is called. waiting counts its tasks meanwhile, release returns how
// many viewers it has when these are done.
func (s *Server) Hold(stream string) (waiting func() int, release func() (viewers int)) {
	s.mu.Lock()
	f := s.fans[stream][0].fan
	s.mu.Unlock()
	held, on := make(chan struct{}), make(chan struct{})
	f.do(true, func() {
		close(held)
		<-on
	})
	<-held
	waiting = func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.tasks)
	}
	return waiting, func() int {
		viewers := make(chan int)
		f.do(true, func() { viewers <- len(f.viewers) })
		close(on)
		return <-viewers
	}
}

// Track returns what counts the sessions, of those that are open now, that are still in memory.
func (s *Server) Track() (alive func() int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sessions []weak.Pointer[session]
	var peers []weak.Pointer[rtc.Peer]
	for _, shards := range s.fans {
		for _, sh := range shards {
			for v := range sh.sessions {
				sessions, peers = append(sessions, weak.Make(v)), append(peers, weak.Make(v.peer))
			}
		}
	}
	return func() int {
		runtime.GC()
		n := 0
		for i := range sessions {
			if sessions[i].Value() != nil || peers[i].Value() != nil {
				n++
			}
		}
		return n
	}
}

// Places returns how many places for joining are held.
func (s *Server) Places() int { return len(s.gate) }

// Occupy takes all places for joining until release is called.
func (s *Server) Occupy() (release func()) {
	for range cap(s.gate) {
		s.gate <- struct{}{}
	}
	return func() {
		for range cap(s.gate) {
			<-s.gate
		}
	}
}
