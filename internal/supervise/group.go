package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Group runs the stages of a daemon. They start in the order in which they were added, which is the signal path's; when
// the Group ends they stop in the same order, one after the other, so that each can drain what the one before it made.
type Group struct {
	log     *slog.Logger
	members []member
}

type member struct {
	name  string
	limit time.Duration
	run   func(context.Context) error
}

// NewGroup returns an empty Group.
func NewGroup(log *slog.Logger) *Group { return &Group{log: log} }

// Add appends a stage. limit is how long it may take to return after it was told to stop. Add comes before Run.
func (g *Group) Add(name string, limit time.Duration, run func(context.Context) error) {
	g.members = append(g.members, member{name, limit, run})
}

// A StuckError names a stage that did not stop within its limit. Its goroutine is still running.
type StuckError struct {
	Name  string
	Limit time.Duration
}

func (e *StuckError) Error() string { return fmt.Sprintf("%s did not stop within %v", e.Name, e.Limit) }

// Run starts all stages and returns after the last has ended. It stops them when ctx ends or as soon as one returns, with
// or without an error. It returns the errors of all, each with the stage's name; a stage that does not stop within its limit
// is a StuckError, and only such a stage outlives Run.
func (g *Group) Run(ctx context.Context) error {
	type ended struct {
		i   int
		err error
	}
	ends := make(chan ended, len(g.members))
	cancels := make([]context.CancelFunc, len(g.members))
	for i, m := range g.members {
		// Its own context: the end of ctx must not reach all stages at once.
		mctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i] = cancel
		go func() { ends <- ended{i, m.run(mctx)} }()
	}
	var errs []error
	done := make([]bool, len(g.members))
	note := func(e ended) {
		done[e.i] = true
		if e.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.members[e.i].name, e.err))
		}
	}
	if len(g.members) > 0 {
		select {
		case <-ctx.Done():
		case e := <-ends:
			note(e)
			if ctx.Err() == nil {
				g.log.Info("stage ended, stopping", "stage", g.members[e.i].name)
			}
		}
	}
	for i, m := range g.members {
		cancels[i]()
		began := time.Now()
		limit := time.NewTimer(m.limit)
		for !done[i] {
			select {
			case e := <-ends:
				note(e)
				continue
			case <-limit.C:
				done[i] = true
				errs = append(errs, &StuckError{m.name, m.limit})
			}
		}
		limit.Stop()
		g.log.Debug("stage stopped", "stage", m.name, "dur", time.Since(began).Round(time.Millisecond))
	}
	return errors.Join(errs...)
}
