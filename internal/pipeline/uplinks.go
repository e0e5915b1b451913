package pipeline

import (
	"cmp"
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
	uplinkSilent  = health.Warnable{Code: "uplink-silent", Severity: health.Degraded}
	uplinkWarns   = health.Warnable{Code: "uplink-warning", Severity: health.Degraded}
)

// refusedDelay is how long to wait where the destination will not take us until a person has acted.
const refusedDelay = 30 * time.Second

const measureEvery = 250 * time.Millisecond // how often a Sender's statistics are looked at

// State is where a destination stands.
type State string

// The states of a destination:
//
//	stopped ◄─► waiting ─► connecting ─► connected
//	standby ◄─►    ▲           │             │
//	               └───────────┴─────────────┘ lost, or refused
const (
	Stopped    State = "stopped"    // by a person, until one starts it
	Standby    State = "standby"    // a backup, whose destination does not need it
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
	pass     *passing
	ceiling  func() int // bit/s, of what is coded anew
	stream   smooth     // what the source's own packets come to; of run

	mu     sync.Mutex
	links  []*link         // in the order of the configuration
	orders map[string]bool // what people said by Start (true) and Stop, by name
}

// A link is one destination that is kept connected.
type link struct {
	spec   Uplink
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}
	gate   *setting[State] // Stopped or Standby; empty: it shall be connected
	out    meter           // of what left

	mu sync.Mutex
	linkState
}

// A linkState is what others may know about a link.
type linkState struct {
	state    State
	since    time.Time
	err      error     // why the last connection ended
	next     time.Time // when the next try is due
	turned   time.Time // when it was last connected or lost, or was started
	codecs   []media.Codec
	reporter uplink.Reporter // nil: the Sender does not report
	connects uint64
	losses   uint64
}

// run starts, stops and replaces links as the setting says; a link whose Key stays the same is not touched.
func (u *uplinks) run(ctx context.Context) error {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		want, changed := u.setting.get()
		u.arrange(ctx, want)
		for again := true; again; {
			select {
			case <-tick.C:
				u.judge(time.Now())
				u.weigh(clock.Now())
			case <-changed:
				again = false
			case <-ctx.Done():
				again = false
			}
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
	u.judge(time.Now())
}

func (u *uplinks) start(ctx context.Context, spec Uplink) *link {
	ctx, cancel := context.WithCancel(ctx)
	l := &link{spec: spec, log: u.log.With("uplink", spec.Name), cancel: cancel, done: make(chan struct{})}
	gate := State("")
	switch {
	case u.stopped(spec):
		gate = Stopped
	case spec.BackupOf != "":
		gate = Standby
	}
	l.gate = newSetting(gate)
	l.turned = time.Now()
	l.enter(cmp.Or(gate, Waiting), nil)
	go func() {
		defer close(l.done)
		l.gate.follow(ctx, func(ctx context.Context, gate State) {
			if gate == "" {
				l.enter(Waiting, nil)
				u.keep(ctx, l)
				return
			}
			l.enter(gate, nil)
			<-ctx.Done()
		})
	}()
	return l
}

func (l *link) enter(s State, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was := l.state; (was == Connected) != (s == Connected) || was == Stopped {
		l.turned = time.Now()
	}
	l.state, l.since, l.next = s, time.Now(), time.Time{}
	if err != nil || s == Connected || s == Stopped || s == Standby {
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
	defer u.tracks.leave(l.spec.Name)
	_ = task.Keep(ctx, func(ctx context.Context) (err error) {
		if sender == nil {
			if sender, err = l.spec.Open(l.log); err != nil {
				return u.lost(l, err)
			}
			reporter, _ := sender.(uplink.Reporter)
			l.mu.Lock()
			l.reporter = reporter
			l.mu.Unlock()
		}
		err = u.once(ctx, l, sender)
		if ctx.Err() != nil {
			return nil
		}
		return u.lost(l, err)
	})
	u.health.Clear(uplinkDown, l.spec.Name)
	u.health.Clear(uplinkRefused, l.spec.Name)
	u.health.Clear(uplinkSilent, l.spec.Name)
	u.health.Clear(uplinkWarns, l.spec.Name)
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
		offered, changed, err := u.tracks.wait(ctx, l.spec)
		if err != nil {
			return err
		}
		tracks, silent, err := choose(offered, l.spec.Carries)
		if err != nil {
			return err
		}
		u.health.Set(uplinkSilent, l.spec.Name, silent)
		inner, cancel := context.WithCancel(ctx)
		watch := make(chan struct{})
		go func() {
			defer close(watch)
			for tracks := tracks; ; {
				select {
				case <-changed:
				case <-inner.Done():
					return
				}
				offered, changed = u.tracks.offer(l.spec)
				if len(offered.video) < len(renditionsOf(tracks)) {
					continue // one is being replaced
				}
				now, _, err := choose(offered, l.spec.Carries)
				if err != nil || !alike(presented(now), presented(tracks)) { // what it has changed
					cancel()
					return
				}
				if now[0].RID != tracks[0].RID {
					u.reroute(l, now)
					tracks = now
				}
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
	u.feedback.join(name, renditionsOf(tracks), l.spec.Aside)
	defer u.feedback.leave(name)
	defer u.measure(l, sender, tracks)()
	return sender.Run(ctx, uplink.Program{
		Tracks:   presented(tracks),
		Packets:  queue,
		Wall:     clock.Wall,
		Feedback: func(f media.Feedback) { u.fanout.tell(name, f) },
		Path:     u.path,
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

// path returns what the path of a destination carries: what it is said to, or at least what leaves for it.
func (u *uplinks) path(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.links {
		if l.spec.Name != name {
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.state != Connected {
			return 0
		}
		_, _, _, leaves := l.out.read(clock.Now())
		carries, _ := u.feedback.of(name)
		return max(carries, int(leaves))
	}
	return 0
}

// measure begins to measure what leaves, and to hear the Sender's warnings; the function that it returns ends that.
func (u *uplinks) measure(l *link, sender uplink.Sender, tracks []media.Track) (end func()) {
	var codecs []media.Codec
	for _, t := range tracks {
		codecs = append(codecs, t.Codec)
	}
	note := func(codecs []media.Codec) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.codecs = codecs
	}
	note(codecs)
	reporter, ok := sender.(uplink.Reporter)
	if !ok {
		return func() { note(nil) }
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(measureEvery)
		defer tick.Stop()
		for last := reporter.Stats().Bytes; ; {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			stats := reporter.Stats()
			if stats.Warning != "" {
				u.health.Raise(uplinkWarns, l.spec.Name, stats.Warning)
			} else {
				u.health.Clear(uplinkWarns, l.spec.Name)
			}
			now := stats.Bytes
			if now > last {
				l.out.add(clock.Now(), int(now-last))
			}
			last = now
		}
	}()
	return func() {
		note(nil)
		close(stop)
		<-done
	}
}
