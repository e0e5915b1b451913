package whip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"gantry/internal/supervise"
	"gantry/media"
	"gantry/uplink"
)

const (
	maxPaths  = 4
	pathQueue = 2 * time.Second // of media that may wait for one path: it may be the only one left
	farBehind = 4               // a path that carries less than this part of the best one's is not waited for
)

var pathBackoff = supervise.Backoff{Min: 250 * time.Millisecond, Max: 10 * time.Second, Jitter: 0.3, Healthy: 5 * time.Second}

// A Bond sends one programme over several interfaces at once, as a session on each: the same packets with the same sequence
// numbers and times on all of them (as SMPTE ST 2022-7 does), so that a relay that takes each from whichever brings it first
// loses none with either. The server must know of it: gantry-relay does. It implements uplink.Sender and uplink.Reporter.
type Bond struct {
	id    string
	log   *slog.Logger
	lanes []*bondPath
}

// A bondPath is one interface's part in a Bond.
type bondPath struct {
	*Sender
	queue *media.Queue

	mu      sync.Mutex
	up      bool
	err     error // why it is down
	bitrate int   // that it is said to carry
}

var _ uplink.Reporter = (*Bond)(nil)

// NewBond returns a Bond over the Interfaces of c, which must be valid. It starts nothing.
func NewBond(c Config, log *slog.Logger) (*Bond, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b := &Bond{id: rand.Text(), log: log}
	names := strings.Fields(c.Interfaces)
	for i, name := range names {
		b.lanes = append(b.lanes, &bondPath{Sender: &Sender{config: c, log: log.With("device", name),
			route: &route{device: name, bond: b.id, index: i, count: len(names)}}})
	}
	return b, nil
}

// Run sends p until ctx ends, while at least one path works. Each is kept on its own; Run returns when all have failed.
func (b *Bond) Run(ctx context.Context, p uplink.Program) error {
	streams, err := newStreams(p.Tracks, "")
	if err != nil {
		return err
	}
	n := &numbers{tracks: make([]numbered, len(streams))}
	for i := range n.tracks {
		n.tracks[i].next = uint16(b.lanes[0].route.base("sequence", i))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	connected := sync.OnceFunc(func() {
		if p.Connected != nil {
			p.Connected()
		}
	})
	for _, l := range b.lanes {
		l.route.numbers = n
		l.queue = media.NewQueue(pathQueue, p.Tracks)
		l.set(false, nil)
		work.Go(func() { b.keep(ctx, l, p, connected, cancel) })
	}
	err = b.pump(ctx, p, streams, n)
	for _, l := range b.lanes {
		l.queue.Close(err)
	}
	cancel(err)
	work.Wait()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, errEnded) {
		return nil
	}
	return cause
}

// pump numbers what is sent and hands it to all paths.
func (b *Bond) pump(ctx context.Context, p uplink.Program, streams []*stream, n *numbers) error {
	for {
		unit, err := p.Packets.Pull(ctx)
		if err != nil {
			return err
		}
		if int(unit.Track) >= len(streams) {
			continue
		}
		n.assign(int(unit.Track), unit.PTS, len(streams[unit.Track].pack(unit.Data)))
		for _, l := range b.lanes {
			l.queue.Push(unit) // a path that is too slow begins again with the next key frame; the others have the rest
		}
	}
}

// keep makes one session after the other on a path. When it was the last that worked, fail ends the Bond.
func (b *Bond) keep(ctx context.Context, l *bondPath, p uplink.Program, connected func(), fail context.CancelCauseFunc) {
	own := p
	own.Packets = l.queue
	own.Feedback = func(f media.Feedback) {
		f.Bitrate = b.carried(l, f.Bitrate)
		if p.Feedback != nil && f != (media.Feedback{}) {
			p.Feedback(f)
		}
	}
	own.Connected = func() {
		l.set(true, nil)
		connected()
	}
	task := supervise.Task{Log: l.log, Backoff: pathBackoff}
	_ = task.Keep(ctx, func(ctx context.Context) error {
		err := l.Sender.Run(ctx, own)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("the session ended")
		}
		l.set(false, err)
		if all := b.failed(); all != nil {
			fail(all)
		}
		return err
	})
}

func (l *bondPath) set(up bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up, l.err = up, err; !up {
		l.bitrate = 0
	}
}

// failed returns why all paths are down; nil: they are not.
func (b *Bond) failed() error {
	var errs []error
	for _, l := range b.lanes {
		l.mu.Lock()
		err := l.err
		l.mu.Unlock()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", l.route.device, err))
	}
	return errors.Join(errs...)
}

// carried notes what a path is said to carry and returns what all do: the least, but for paths that are far behind the best.
func (b *Bond) carried(on *bondPath, bitrate int) int {
	if bitrate == 0 {
		return 0
	}
	on.mu.Lock()
	on.bitrate = bitrate
	on.mu.Unlock()
	var all []int
	best := 0
	for _, l := range b.lanes {
		l.mu.Lock()
		if l.bitrate > 0 {
			all, best = append(all, l.bitrate), max(best, l.bitrate)
		}
		l.mu.Unlock()
	}
	least := best
	for _, r := range all {
		if r*farBehind >= best {
			least = min(least, r)
		}
	}
	return least
}

// Stats adds the paths up: what left is the sum, round trip and loss are the best path's.
func (b *Bond) Stats() uplink.Stats {
	var sum uplink.Stats
	var remotes, warnings []string
	for _, l := range b.lanes {
		st := l.Sender.Detail()
		l.mu.Lock()
		up, err := l.up && st.Connected, l.err
		l.mu.Unlock()
		sum.Paths = append(sum.Paths, uplink.Path{Name: l.route.device, Connected: up, Remote: st.Remote, RTT: st.RTT, Loss: st.Loss,
			Bytes: st.Bytes, Retransmitted: st.Retransmitted, Dropped: st.Dropped, Estimate: st.Estimate})
		sum.Packets += st.Packets
		sum.Bytes += st.Bytes
		sum.Retransmitted += st.Retransmitted
		sum.Dropped += st.Dropped
		switch {
		case !up && err != nil:
			warnings = append(warnings, fmt.Sprintf("nothing goes out by %s: %v", l.route.device, err))
		case !up:
			warnings = append(warnings, fmt.Sprintf("nothing goes out by %s yet", l.route.device))
		default:
			if len(remotes) == 0 || st.RTT < sum.RTT {
				sum.RTT, sum.Loss = st.RTT, st.Loss
			}
			sum.Estimate = max(sum.Estimate, st.Estimate)
			remotes = append(remotes, st.Remote+" by "+l.route.device)
		}
	}
	sum.Remote, sum.Warning = strings.Join(remotes, ", "), strings.Join(warnings, "; ")
	return sum
}
