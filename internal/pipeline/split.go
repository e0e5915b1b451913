package pipeline

import (
	"slices"
	"sync"

	"gantry/media"
)

// A splitter hands each picture to every encode, and decides for all of them which becomes a key frame: a destination may change
// from one rendition to another there.
type splitter struct {
	feedback *feedback

	mu    sync.Mutex
	slots []*slot // the first is the main encode's
}

func newSplitter(b *feedback) *splitter { return &splitter{feedback: b, slots: []*slot{newSlot()}} }

// add returns a slot that further pictures go to as well, until remove.
func (s *splitter) add() *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := newSlot()
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
	key := s.feedback.key(f.PTS, cut)
	slots := s.all()
	for _, further := range slots[1:] {
		further.put(f.Retain(), key)
	}
	slots[0].put(f, key)
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
