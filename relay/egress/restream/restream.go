// Package restream sends streams of the relay on to other servers: destinations that the configuration lists, and those that
// the API adds and takes away while live. Each has its own connection, back-off and state; one that is slow or dead harms none.
//
// It knows no protocol: who makes it hands in what turns a destination into an uplink.Sender.
package restream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"gantry/internal/secret"
	"gantry/internal/supervise"
	"gantry/media"
	"gantry/relay"
	"gantry/uplink"
)

// Limits of what the API may add.
const (
	maxPerStream = 16
	maxAll       = 256
)

// lag is how far a destination may fall behind before it drops to a key frame.
const lag = 3 * time.Second

var (
	// ErrTooMany: no more destinations are taken.
	ErrTooMany = fmt.Errorf("there are %d destinations of this stream or %d in all: take one away first", maxPerStream, maxAll)
	// ErrUnknown: the stream has no such destination.
	ErrUnknown = errors.New("the stream has no such destination")
)

// A Destination is where one stream goes. It is comparable.
type Destination struct {
	Stream string        `yaml:"stream" json:"-"`
	Name   string        `yaml:"name" json:"name"` // its id in the API; letters, digits and - _ .
	URL    secret.String `yaml:"url" json:"url"`   // may hold keys and passphrases
	Token  secret.String `yaml:"token" json:"token"`
}

// Validate names the key that is wrong; what the URL may be is Open's to say.
func (d Destination) Validate() error {
	if !relay.ValidName(d.Stream) {
		return fmt.Errorf("stream: %w", relay.ErrName)
	}
	if !relay.ValidName(d.Name) || slices.Contains([]byte(d.Name), '/') {
		return errors.New("name: want 1 to 128 letters, digits, '-', '_' or '.'")
	}
	return nil
}

// place is the URL without what may be secret: keys are often in the path.
func (d Destination) place() string {
	u, err := url.Parse(d.URL.Reveal())
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Open returns what sends to d, and the audio codec that it takes.
type Open func(d Destination) (uplink.Sender, media.Codec, error)

// State is what is known of a destination.
type State struct {
	Name   string    `json:"name"`
	To     string    `json:"to"`    // scheme, host and port
	State  string    `json:"state"` // "waiting" for the stream or the next try, "connecting", "sending"
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	Bytes  uint64    `json:"bytes,omitempty"`
}

// A Server keeps destinations connected. Close it before the Hub.
type Server struct {
	hub  *relay.Hub
	open Open
	log  *slog.Logger
	ctx  context.Context
	stop context.CancelFunc

	edit sync.Mutex // one Add at a time
	mu   sync.Mutex
	runs []*run
}

// New returns a Server without destinations.
func New(hub *relay.Hub, open Open, log *slog.Logger) *Server {
	s := &Server{hub: hub, open: open, log: log}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close ends all connections and waits for them.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	runs := s.runs
	s.runs = nil
	s.mu.Unlock()
	for _, r := range runs {
		<-r.done
	}
	return nil
}

// Add begins to send to d, in place of the destination of that stream and name if there is one.
func (s *Server) Add(d Destination) error {
	if err := d.Validate(); err != nil {
		return err
	}
	sender, audio, err := s.open(d)
	if err != nil {
		return err
	}
	s.edit.Lock()
	defer s.edit.Unlock()
	if err := s.Remove(d.Stream, d.Name); err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for _, r := range s.runs {
		if r.d.Stream == d.Stream {
			same++
		}
	}
	if same >= maxPerStream || len(s.runs) >= maxAll || s.ctx.Err() != nil {
		return ErrTooMany
	}
	ctx, cancel := context.WithCancel(s.ctx)
	r := &run{d: d, hub: s.hub, sender: sender, audio: audio, cancel: cancel, done: make(chan struct{})}
	r.note("waiting", "")
	s.runs = append(s.runs, r)
	go r.keep(ctx, s.log.With("stream", d.Stream, "uplink", d.Name))
	return nil
}

// Remove ends a destination; ErrUnknown where there is none.
func (s *Server) Remove(stream, name string) error {
	s.mu.Lock()
	i := slices.IndexFunc(s.runs, func(r *run) bool { return r.d.Stream == stream && r.d.Name == name })
	if i < 0 {
		s.mu.Unlock()
		return ErrUnknown
	}
	r := s.runs[i]
	s.runs = slices.Delete(s.runs, i, i+1)
	s.mu.Unlock()
	r.cancel()
	<-r.done
	return nil
}

// States returns the destinations of a stream, the oldest first.
func (s *Server) States(stream string) []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := []State{}
	for _, r := range s.runs {
		if r.d.Stream == stream {
			states = append(states, r.snapshot())
		}
	}
	return states
}

// A run is one destination at work.
type run struct {
	d      Destination
	hub    *relay.Hub
	sender uplink.Sender
	audio  media.Codec
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	state State
}

func (r *run) note(state, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.State != state {
		r.state.Since = time.Now()
	}
	r.state.State, r.state.Reason = state, reason
}

func (r *run) snapshot() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.state
	state.Name, state.To = r.d.Name, r.d.place()
	if reporter, ok := r.sender.(uplink.Reporter); ok {
		state.Bytes = reporter.Stats().Bytes
	}
	return state
}

func (r *run) keep(ctx context.Context, log *slog.Logger) {
	defer close(r.done)
	defer r.cancel()
	task := supervise.Task{Name: "restream", Log: log, Backoff: supervise.Backoff{Min: 500 * time.Millisecond, Max: 15 * time.Second, Jitter: 0.2},
		Waiting: func(err error, _ time.Duration) { r.note("waiting", err.Error()) }}
	_ = task.Keep(ctx, r.once) // nil: it ends with ctx
}

// once makes one connection.
func (r *run) once(ctx context.Context) error {
	sub, err := r.hub.Subscribe(r.d.Stream, relay.Want{Audio: r.audio})
	if err != nil {
		return err
	}
	defer sub.Close()
	sub.SetViewers(1)
	tracks := sub.Tracks()
	queue := media.NewQueue(lag, tracks)
	r.note("connecting", "")

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { // the pump
		defer cancel()
		var packets []*media.Packet
		var err error
		for err == nil {
			packets, err = sub.Pull(ctx, packets[:0])
			for _, p := range packets {
				if _, needKey := queue.Push(p); needKey != 0 {
					sub.Feedback(media.Feedback{KeyFrame: true, Tracks: needKey})
				}
			}
		}
		queue.Close(err)
		ended <- err
	}()
	err = r.sender.Run(ctx, uplink.Program{Tracks: tracks, Packets: queue,
		Wall: func(pts time.Duration) time.Time {
			if wall, ok := sub.Wall(0, pts); ok {
				return wall
			}
			return time.Now()
		},
		Feedback:  func(f media.Feedback) { sub.Feedback(media.Feedback{KeyFrame: f.KeyFrame}) },
		Connected: func() { r.note("sending", "") },
	})
	cancel()
	if pumped := <-ended; err == nil && !errors.Is(pumped, context.Canceled) {
		err = pumped
	}
	return err
}
