package heal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"gantry/internal/recording"
	"gantry/uplink"
)

const (
	askEvery  = 5 * time.Second  // for gaps
	soon      = time.Second      // again, while a recording is still being written
	settled   = 15 * time.Second // after a gap's end: what was not recorded by then will not be
	warnFor   = time.Hour        // of what is lost
	maxTries  = 3                // of a gap that stays as it is
	maxMemory = 10_000           // gaps that are remembered as hopeless
)

// A Sender heals one stream's recording. It implements uplink.Sender and uplink.Reporter.
type Sender struct {
	config Config
	log    *slog.Logger
	folder *recording.Folder
	remote string
	bytes  atomic.Uint64
	clips  atomic.Uint64

	mu    sync.Mutex
	lost  string    // what could not be healed lately
	until time.Time // when that is no news any more

	// of Run
	tries map[int64]int // by the gap's From, in Unix nanoseconds
}

var _ uplink.Reporter = (*Sender)(nil)

// New returns a Sender for a valid Config. It starts nothing.
func New(c Config, log *slog.Logger) *Sender {
	s := &Sender{config: c, log: log, folder: recording.NewFolder(c.Dir), tries: map[int64]int{}}
	if u, err := url.Parse(c.URL); err == nil {
		s.remote = u.Host
	}
	return s
}

// Stats returns what was sent, and what is lost as its warning.
func (s *Sender) Stats() uplink.Stats {
	st := uplink.Stats{Remote: s.remote, Bytes: s.bytes.Load(), Packets: s.clips.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		st.Warning = s.lost
	}
	return st
}

// Run heals until ctx or the programme ends, or the relay cannot be reached. Of the programme it takes the Paths; its packets are
// dropped.
func (s *Sender) Run(ctx context.Context, p uplink.Program) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel(nil)
	work.Go(func() {
		for {
			if _, err := p.Packets.Pull(ctx); err != nil {
				cancel(err)
				return
			}
		}
	})
	c := newClient(s.config, func(n int) { s.bytes.Add(uint64(n)) })
	defer c.close()
	err := s.work(ctx, c, p)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Sender) work(ctx context.Context, c *client, p uplink.Program) error {
	rate := func() int {
		if p.Path == nil {
			return 0
		}
		return p.Path(s.config.Uplink) * s.config.Share / 100
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	connected := false
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		gaps, err := c.gaps(ctx)
		if err != nil {
			return err
		}
		if !connected {
			connected = true
			if p.Connected != nil {
				p.Connected()
			}
		}
		wait := askEvery
		for _, g := range gaps {
			ready, err := s.heal(ctx, g, func(clip []byte) error {
				err := c.put(ctx, clip, rate)
				if err == nil {
					s.clips.Add(1)
				}
				return err
			})
			if err != nil {
				return err
			}
			if !ready {
				wait = soon
			}
		}
		timer.Reset(wait)
	}
}

// heal sends what the box has of a gap. It is not ready while that is still being written.
func (s *Sender) heal(ctx context.Context, g recording.Gap, put func([]byte) error) (ready bool, err error) {
	key := g.From.UnixNano()
	if s.tries[key] >= maxTries {
		return true, nil
	}
	newest, err := s.folder.Newest()
	if err != nil {
		return false, fmt.Errorf("read the recordings: %w", err)
	}
	if newest.Before(g.To) && time.Since(g.To) < settled {
		return false, nil
	}
	if len(s.tries) > maxMemory {
		clear(s.tries)
	}
	s.tries[key]++
	clips, began := 0, time.Now()
	holes, err := s.folder.Cut(g, func(clip []byte) error {
		clips++
		return put(clip)
	})
	switch {
	case errors.Is(err, errClip):
		s.tries[key] = maxTries
		s.note(g.To, recording.Hole{From: g.From, To: g.To}, err.Error())
		return true, nil
	case err != nil:
		return false, err
	}
	if clips > 0 {
		s.log.Info("gap of the relay's recording healed", "from", g.From, "to", g.To, "dur", time.Since(began).Round(time.Millisecond))
	}
	for _, h := range holes {
		s.tries[key] = maxTries
		s.note(g.To, h, "there is no recording of it here")
	}
	return len(holes) > 0 || clips == 0, nil
}

// note tells of what is lost, once.
func (s *Sender) note(end time.Time, h recording.Hole, reason string) {
	text := fmt.Sprintf("the relay's recording lacks %s to %s UTC: %s", h.From.UTC().Format("2006-01-02 15:04:05.0"), h.To.UTC().Format("15:04:05.0"), reason)
	s.log.Warn("gap of the relay's recording stays", "from", h.From, "to", h.To, "reason", reason)
	s.mu.Lock()
	s.lost, s.until = text, end.Add(warnFor)
	s.mu.Unlock()
}
