package relay

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gantry/media"
)

// A Hub holds the Streams of one relay by name. Its methods may be called by any goroutine.
type Hub struct {
	cfg   Config
	log   *slog.Logger
	start time.Time

	transcode Transcoder
	slate     Slate // nil: subscribers see what came last

	mu      sync.Mutex
	streams map[string]*Stream
	closed  bool
}

// NewHub returns an empty Hub.
func NewHub(cfg Config, log *slog.Logger) *Hub {
	return &Hub{cfg: cfg, log: log, start: time.Now(), streams: map[string]*Stream{}}
}

// Publish adds a publisher to the stream of that name and makes the stream if there is none. ErrName and ErrTracks say what
// is wrong with the arguments, ErrEnded that the Hub is closed.
func (h *Hub) Publish(name string, p Publisher) (*Publication, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("publish %q: %w", name, ErrName)
	}
	if len(p.Tracks) == 0 || len(p.Tracks) > 16 || slices.ContainsFunc(p.Tracks, func(t media.Track) bool { return t.Codec == media.NoCodec }) {
		return nil, fmt.Errorf("publish %q: %w", name, ErrTracks)
	}
	for {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return nil, fmt.Errorf("publish %q: %w", name, ErrEnded)
		}
		s := h.streams[name]
		if s == nil {
			s = newStream(h, name)
			h.streams[name] = s
		}
		h.mu.Unlock()
		if pub := s.publish(p); pub != nil {
			return pub, nil
		}
		h.forget(s) // it ended between the look-up and the call
	}
}

// SetTranscoder gives the Hub what turns one audio codec into another. It is called before the first Publish; without it,
// sound that a subscriber cannot take is left out.
func (h *Hub) SetTranscoder(t Transcoder) { h.transcode = t }

// SetSlate gives the Hub what subscribers see while nobody publishes. It is called before the first Publish; without it, they
// see what came last.
func (h *Hub) SetSlate(s Slate) { h.slate = s }

// Subscribe returns a Subscription to the stream of that name as wanted: ErrNoStream when nobody publishes it now and no
// slate is shown, ErrPacking when no track can be had so.
func (h *Hub) Subscribe(name string, want Want) (*Subscription, error) {
	h.mu.Lock()
	s := h.streams[name]
	h.mu.Unlock()
	err := ErrNoStream
	if s != nil {
		var sub *Subscription
		if sub, err = s.subscribe(want); err == nil {
			return sub, nil
		}
	}
	return nil, fmt.Errorf("subscribe to %q: %w", name, err)
}

// Live returns the tracks of the stream of that name, or ErrNoStream when nobody publishes it now.
func (h *Hub) Live(name string) ([]media.Track, error) {
	h.mu.Lock()
	s := h.streams[name]
	h.mu.Unlock()
	if s != nil {
		if tracks := s.liveTracks(); tracks != nil {
			return tracks, nil
		}
	}
	return nil, fmt.Errorf("stream %q: %w", name, ErrNoStream)
}

// SetPriority gives a publisher of a stream, by its Published.ID, another priority: the best is forwarded from its next key
// frame on. ErrNoStream or ErrNoPublisher say what there is not.
func (h *Hub) SetPriority(stream, id string, priority int) error {
	return h.rule(stream, func(s *Stream) error { return s.setPriority(id, priority) })
}

// Choose has a publisher of a stream forwarded from its next key frame on, whatever its priority, as long as it sends; an empty
// id gives the choice back to the priorities. ErrNoStream or ErrNoPublisher say what there is not.
func (h *Hub) Choose(stream, id string) error {
	return h.rule(stream, func(s *Stream) error { return s.choose(id) })
}

func (h *Hub) rule(stream string, f func(*Stream) error) error {
	h.mu.Lock()
	s := h.streams[stream]
	h.mu.Unlock()
	err := ErrNoStream
	if s != nil {
		err = f(s)
	}
	if err != nil {
		return fmt.Errorf("stream %q: %w", stream, err)
	}
	return nil
}

// Streams returns what is known of every stream, sorted by name.
func (h *Hub) Streams() []Info {
	h.mu.Lock()
	streams := make([]*Stream, 0, len(h.streams))
	for _, s := range h.streams {
		streams = append(streams, s)
	}
	h.mu.Unlock()
	infos := make([]Info, len(streams))
	for i, s := range streams {
		infos[i] = s.info()
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos
}

// Close ends all Streams: Publications are Done and Subscriptions see ErrEnded.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	streams := h.streams
	h.streams = map[string]*Stream{}
	h.mu.Unlock()
	for _, s := range streams {
		s.end(ErrEnded)
	}
	return nil
}

func (h *Hub) forget(s *Stream) {
	h.mu.Lock()
	if h.streams[s.name] == s {
		delete(h.streams, s.name)
	}
	h.mu.Unlock()
}

// elapsed is the time since the Hub was made: arrival times, never media times.
func (h *Hub) elapsed() time.Duration { return time.Since(h.start) }
