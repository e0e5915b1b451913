package pipeline

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/supervise"
	"gantry/media"
	"gantry/uplink"
)

var (
	uplinkBackoff = supervise.Backoff{Min: 500 * time.Millisecond, Max: 30 * time.Second, Jitter: 0.3, Healthy: 10 * time.Second}

	uplinkDown    = health.Warnable{Code: "uplink-down", Severity: health.Failing, Visible: 3 * time.Second}
	uplinkRefused = health.Warnable{Code: "uplink-refused", Severity: health.Broken}
)

// refusedDelay is how long to wait where the destination will not take us until a person has acted.
const refusedDelay = 30 * time.Second

// State is where a destination stands.
type State string

// The states of a destination:
//
//	waiting ─► connecting ─► connected
//	   ▲           │             │
//	   └───────────┴─────────────┘ lost, or refused
const (
	Waiting    State = "waiting"    // for the first coded picture, or for the next try
	Connecting State = "connecting" // negotiating
	Connected  State = "connected"  // media flows
)

// uplinks keeps the destinations, each on its own.
type uplinks struct {
	log      *slog.Logger
	health   *health.Set
	setting  *setting[[]Uplink]
	feedback *feedback
	fanout   *fanout
	tracks   *tracks

	mu    sync.Mutex
	links []*link // in the order of the configuration
}

// A link is one destination that is kept connected.
type link struct {
	spec   Uplink
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	state    State
	since    time.Time
	err      error     // why the last connection ended
	next     time.Time // when the next try is due
	connects uint64
	losses   uint64
}

// run starts, stops and replaces links as the setting says; a link whose Key stays the same is not touched.
func (u *uplinks) run(ctx context.Context) error {
	for ctx.Err() == nil {
		want, changed := u.setting.get()
		u.arrange(ctx, want)
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	u.arrange(ctx, nil)
	return nil
}

func (u *uplinks) arrange(ctx context.Context, want []Uplink) {
	u.mu.Lock()
	old := u.links
	u.mu.Unlock()
	find := func(s Uplink) *link {
		for _, l := range old {
			if l.spec.Name == s.Name && l.spec.Key == s.Key {
				return l
			}
		}
		return nil
	}
	kept := map[*link]bool{}
	for _, s := range want {
		if l := find(s); l != nil {
			kept[l] = true
		}
	}
	for _, l := range old { // all are told before any is waited for
		if !kept[l] {
			l.cancel()
		}
	}
	for _, l := range old {
		if !kept[l] {
			<-l.done
		}
	}
	var links []*link
	for _, s := range want {
		l := find(s)
		if l == nil {
			l = u.start(ctx, s)
		}
		links = append(links, l)
	}
	u.mu.Lock()
	u.links = links
	u.mu.Unlock()
}

func (u *uplinks) start(ctx context.Context, spec Uplink) *link {
	ctx, cancel := context.WithCancel(ctx)
	l := &link{spec: spec, log: u.log.With("uplink", spec.Name), cancel: cancel, done: make(chan struct{})}
	l.enter(Waiting, nil)
	go func() {
		defer close(l.done)
		u.keep(ctx, l)
	}()
	return l
}

func (l *link) enter(s State, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.since, l.next = s, time.Now(), time.Time{}
	if err != nil || s == Connected {
		l.err = err
	}
}

// keep makes one connection after the other.
func (u *uplinks) keep(ctx context.Context, l *link) {
	var sender uplink.Sender
	task := supervise.Task{Log: l.log, Backoff: uplinkBackoff, Waiting: func(err error, delay time.Duration) {
		l.mu.Lock()
		l.next = time.Now().Add(delay)
		l.mu.Unlock()
	}}
	_ = task.Keep(ctx, func(ctx context.Context) (err error) {
		if sender == nil {
			if sender, err = l.spec.Open(l.log); err != nil {
				return u.lost(l, err)
			}
		}
		err = u.once(ctx, l, sender)
		if ctx.Err() != nil {
			return nil
		}
		return u.lost(l, err)
	})
	u.health.Clear(uplinkDown, l.spec.Name)
	u.health.Clear(uplinkRefused, l.spec.Name)
}

// lost notes why a connection ended.
func (u *uplinks) lost(l *link, err error) error {
	if err == nil {
		err = errors.New("the connection ended")
	}
	l.enter(Waiting, err)
	l.mu.Lock()
	l.losses++
	l.mu.Unlock()
	if errors.Is(err, uplink.ErrRefused) {
		u.health.Clear(uplinkDown, l.spec.Name)
		u.health.Raise(uplinkRefused, l.spec.Name, err.Error())
		return supervise.After(err, refusedDelay)
	}
	u.health.Clear(uplinkRefused, l.spec.Name)
	u.health.Raise(uplinkDown, l.spec.Name, err.Error())
	return err
}

// once makes one connection, or several while only the tracks change under it.
func (u *uplinks) once(ctx context.Context, l *link, sender uplink.Sender) error {
	for {
		tracks, changed, err := u.tracks.wait(ctx)
		if err != nil {
			return err
		}
		inner, cancel := context.WithCancel(ctx)
		watch := make(chan struct{})
		go func() {
			defer close(watch)
			select {
			case <-changed:
				cancel()
			case <-inner.Done():
			}
		}()
		err = u.connect(inner, l, sender, tracks)
		anew := inner.Err() != nil && ctx.Err() == nil
		cancel()
		<-watch
		if !anew {
			return err
		}
		l.log.Info("connecting anew", "reason", "the coded tracks changed")
	}
}

func (u *uplinks) connect(ctx context.Context, l *link, sender uplink.Sender, tracks []media.Track) error {
	name := l.spec.Name
	l.enter(Connecting, nil)
	queue := u.fanout.add(name, tracks)
	defer u.fanout.remove(name, io.EOF)
	defer u.feedback.leave(name)
	return sender.Run(ctx, uplink.Program{
		Tracks:   tracks,
		Packets:  queue,
		Wall:     clock.Wall,
		Feedback: func(f media.Feedback) { u.feedback.put(name, f) },
		Connected: func() {
			u.feedback.put(name, media.Feedback{KeyFrame: true})
			l.enter(Connected, nil)
			l.mu.Lock()
			l.connects++
			l.mu.Unlock()
			l.log.Info("connected")
			u.health.Clear(uplinkDown, name)
			u.health.Clear(uplinkRefused, name)
		},
	})
}
