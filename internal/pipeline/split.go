package pipeline

import (
	"slices"
	"sync"
	"time"

	"gantry/media"
)

// A splitter hands each picture to every encode, and decides which becomes a key frame. They are the same pictures in all
// renditions, as a viewer may change from one to another there; one that a destination asks of a single rendition puts that one
// out of step until the main encode's next.
type splitter struct {
	feedback *feedback
	gop      func() time.Duration // of all encodes; 0: on demand only

	mu    sync.Mutex
	slots []*slot // the first is the main encode's
	step  step
	peeks []chan *media.Frame // of those who want to see the next picture
}

// A step is what brings encodes back into step.
type step struct {
	lost bool          // a rendition alone was asked for a key frame
	key  time.Duration // PTS of the main encode's last
	last time.Duration // PTS of the last picture
}

func newSplitter(b *feedback) *splitter {
	return &splitter{feedback: b, gop: func() time.Duration { return 0 }, slots: []*slot{newSlot()}}
}

// add returns a slot that further pictures go to as well, until remove.
func (s *splitter) add(rendition string) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := newSlot()
	added.rendition = rendition
	s.slots = append(slices.Clone(s.slots), added)
	return added
}

func (s *splitter) remove(old *slot) {
	s.mu.Lock()
	s.slots = slices.DeleteFunc(slices.Clone(s.slots), func(x *slot) bool { return x == old })
	s.mu.Unlock()
	old.clear()
}

func (s *splitter) all() []*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots
}

// main returns the main encode's slot.
func (s *splitter) main() *slot { return s.all()[0] }

// put takes over f. With cut, f has nothing in common with the pictures before: it becomes a key frame, as decoders that lost
// something meanwhile begin anew with it.
func (s *splitter) put(f *media.Frame, cut bool) {
	every, some := s.feedback.keys(f.PTS, cut)
	s.give(f, every, some)
}

// give takes over f, which becomes a key frame in every rendition or in some.
func (s *splitter) give(f *media.Frame, every bool, some []string) {
	s.show(f)
	every = s.keep(f.PTS, every, len(some) > 0) || every
	slots := s.all()
	for _, further := range slots[1:] {
		further.put(f.Retain(), every || slices.Contains(some, further.rendition))
	}
	slots[0].put(f, every || slices.Contains(some, ""))
}

// keep tells whether the picture with this PTS shall be a key frame in all renditions, so that they are in step again: it is where
// the main encode makes one of its own.
func (s *splitter) keep(pts time.Duration, every, some bool) bool {
	gop := s.gop()
	s.mu.Lock()
	defer s.mu.Unlock()
	interval := pts - s.step.last
	s.step.last = pts
	if len(s.slots) < 2 || every {
		s.step.lost = false
		return false
	}
	if due := pts - s.step.key; s.step.lost && gop > 0 && due+interval/2 >= gop {
		s.step.lost = false
		return true
	}
	s.step.lost = s.step.lost || some
	return false
}

// keyed notes that an encode has made a key frame.
func (s *splitter) keyed(rendition string, pts time.Duration) {
	if rendition != "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step.key = pts
}

// clear gives back the pictures that wait, so that their source can close.
func (s *splitter) clear() {
	for _, x := range s.all() {
		x.clear()
	}
}

// opened is called when an encoder has been opened, which begins with a key frame: where there are others, all make one, so that
// they go on in step.
func (s *splitter) opened() {
	if len(s.all()) > 1 {
		s.feedback.put("", media.Feedback{KeyFrame: true})
	}
}
