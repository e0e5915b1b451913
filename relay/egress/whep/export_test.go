package whep

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
