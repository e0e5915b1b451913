package relay_test

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gantry/media"
	"gantry/relay"
)

// standby is a stream with a main publisher on the air and a backup beside it, which both write a picture a tick.
type standby struct {
	*testing.T
	hub          *relay.Hub
	sub          *relay.Subscription
	main, backup *relay.Publication
	asked        int // key frames, of the backup
	ms           int
	lossy        bool // the main one's pictures come damaged
}

func newStandby(t *testing.T) *standby {
	s := &standby{T: t, hub: relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))}
	s.main = publish(t, s.hub, relay.Publisher{Tracks: []media.Track{h264}, Priority: 2})
	s.backup = publish(t, s.hub, relay.Publisher{Tracks: []media.Track{h264}, Priority: 1, Feedback: func(media.Feedback) { s.asked++ }})
	s.run(time.Second)
	s.sub = subscribe(t, s.hub)
	return s
}

// run lets both write for d, a key frame each half second.
func (s *standby) run(d time.Duration) {
	for end := s.ms + int(d.Milliseconds()); s.ms < end; s.ms += 20 {
		for _, p := range []*relay.Publication{s.main, s.backup} {
			q := picture(s.ms, s.ms%500 == 0)
			q.Lost = p == s.main && s.lossy && s.ms%100 == 0
			p.Write(q)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// active returns the publisher on the air, by its place, and checks that the subscriber has seen one timeline.
func (s *standby) active() int {
	s.Helper()
	if s.sub != nil {
		last := time.Duration(-1)
		for _, p := range pull(s.T, s.sub) {
			if p.PTS < last {
				s.Errorf("time goes back from %v to %v", last, p.PTS)
			}
			last = p.PTS
		}
	}
	for i, p := range s.hub.Streams()[0].Publishers {
		if p.Active {
			return i
		}
	}
	return -1
}

func (s *standby) id(i int) string { return s.hub.Streams()[0].Publishers[i].ID }

func TestPriorityAndChoiceByTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandby(t)
		defer s.hub.Close()
		if err := s.hub.SetPriority("a", "nobody", 1); !errors.Is(err, relay.ErrNoPublisher) {
			t.Error(err)
		}
		if err := s.hub.Choose("b", s.id(0)); !errors.Is(err, relay.ErrNoStream) {
			t.Error(err)
		}
		for _, step := range []struct {
			what string
			do   func() error
			want int
		}{
			{"nothing", func() error { return nil }, 0},
			{"the backup comes first", func() error { return s.hub.SetPriority("a", s.id(1), 3) }, 1},
			{"equal: the newer, and nobody is thrown out", func() error { return s.hub.SetPriority("a", s.id(1), 2) }, 1},
			{"the main one is chosen", func() error { return s.hub.Choose("a", s.id(0)) }, 0},
			{"a priority does not matter then", func() error { return s.hub.SetPriority("a", s.id(1), 9) }, 0},
			{"nobody is chosen", func() error { return s.hub.Choose("a", "") }, 1},
		} {
			asked := s.asked
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
			s.run(600 * time.Millisecond)
			if got := s.active(); got != step.want {
				t.Fatalf("%s: publisher %d is on the air", step.what, got)
			}
			if step.want == 1 && step.what == "the backup comes first" && s.asked == asked {
				t.Error("the backup was not asked for a key frame")
			}
		}
		if s.main.Err() != nil || s.backup.Err() != nil {
			t.Error(s.main.Err(), s.backup.Err())
		}
	})
}

func TestBackupTakesOverOnLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandby(t)
		defer s.hub.Close()
		s.lossy = true
		s.run(2500 * time.Millisecond)
		if s.active() != 1 {
			t.Error("the damaged publisher stayed on the air")
		}
		s.lossy = false
		s.run(8 * time.Second)
		if s.active() != 1 {
			t.Error("back too early")
		}
		s.run(4 * time.Second)
		if s.active() != 0 {
			t.Error("the main publisher did not get the stream back")
		}
	})
}

func TestKeyFrameIsAskedOfOneLayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer h.Close()
		low := h264
		low.RID = "l"
		var first, second []uint64
		a := publish(t, h, relay.Publisher{Tracks: []media.Track{h264, opus, low}, Feedback: func(f media.Feedback) { first = append(first, f.Tracks) }})
		a.Write(picture(0, true))
		sub := subscribe(t, h)
		sub.Feedback(media.Feedback{KeyFrame: true, Tracks: 1 << 2})
		sub.Feedback(media.Feedback{KeyFrame: true, Tracks: 1 << 2}) // too soon
		sub.Feedback(media.Feedback{KeyFrame: true, Tracks: 1 << 0}) // another layer
		// The next publisher has them in another order.
		b := publish(t, h, relay.Publisher{Tracks: []media.Track{opus, low, h264}, Feedback: func(f media.Feedback) { second = append(second, f.Tracks) }})
		key := picture(0, true)
		key.Track = 2
		b.Write(key)
		sub.Feedback(media.Feedback{KeyFrame: true, Tracks: 1 << 2})
		time.Sleep(time.Second)
		sub.Feedback(media.Feedback{KeyFrame: true})
		if len(first) != 2 || first[0] != 1<<2 || first[1] != 1<<0 {
			t.Errorf("the first publisher was asked for %b", first)
		}
		if len(second) != 2 || second[0] != 1<<1 || second[1] != 1<<1|1<<2 {
			t.Errorf("the second publisher was asked for %b", second)
		}
	})
}
