package supervise

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"
)

// Backoff says how long to wait between tries: Min after the first failure, doubled up to Max, each spread by ±Jitter.
// It is comparable. Zero values are replaced by those of Default.
type Backoff struct {
	Min, Max time.Duration
	Jitter   float64       // share of the delay, 0…1, by which it is spread so that many boxes do not come back at once
	Healthy  time.Duration // a run that lasts this long counts as success: the next delay is Min again
}

// Default is for what runs on this machine; destinations across a network use a longer Max.
var Default = Backoff{Min: 250 * time.Millisecond, Max: 10 * time.Second, Jitter: 0.2, Healthy: 5 * time.Second}

func (b Backoff) orDefault() Backoff {
	if b.Min <= 0 {
		b.Min = Default.Min
	}
	if b.Max < b.Min {
		b.Max = max(b.Min, Default.Max)
	}
	if b.Healthy <= 0 {
		b.Healthy = Default.Healthy
	}
	b.Jitter = min(max(b.Jitter, 0), 1)
	return b
}

// delay returns how long to wait after failures failed tries in a row; r is a random number in 0…1.
func (b Backoff) delay(failures int, r float64) time.Duration {
	d := b.Min
	for range failures - 1 {
		if d *= 2; d >= b.Max {
			d = b.Max
			break
		}
	}
	return time.Duration(float64(d) * (1 + b.Jitter*(2*r-1)))
}

// A Delayer is an error that says how soon a retry makes sense. Keep waits at least that long, up to an hour.
type Delayer interface {
	error
	RetryDelay() time.Duration
}

const longestDelay = time.Hour

type delayed struct {
	error
	d time.Duration
}

func (e *delayed) RetryDelay() time.Duration { return e.d }
func (e *delayed) Unwrap() error             { return e.error }

// After returns err as a Delayer.
func After(err error, d time.Duration) error { return &delayed{err, d} }

// A Task is work that Keep keeps alive.
type Task struct {
	Name    string // in log records, as attribute "task"
	Log     *slog.Logger
	Backoff Backoff
	// Waiting, if set, is told before each delay why the last try ended and when the next one is due. It must not block.
	Waiting func(err error, delay time.Duration)
	// Wake, if set, ends a delay early: what the work waits for may have come.
	Wake <-chan struct{}
}

// Keep runs run again and again until ctx ends, and returns nil then. It is Task.Keep without a Waiting function.
func Keep(ctx context.Context, log *slog.Logger, b Backoff, name string, run func(context.Context) error) error {
	return Task{Name: name, Log: log, Backoff: b}.Keep(ctx, run)
}

var errEnded = errors.New("ended by itself")

// Keep runs run again and again until ctx ends, with the Task's back-off between tries, and then returns nil once run has
// returned. A run that returns nil before that ended by itself, which is a failure too.
//
// It logs state changes, not tries: a warning when the work fails or fails in another way than before, and a line when it
// has been healthy again for Backoff.Healthy.
func (t Task) Keep(ctx context.Context, run func(context.Context) error) error {
	b := t.Backoff.orDefault()
	log := t.Log
	if t.Name != "" {
		log = log.With("task", t.Name)
	}
	failures, said := 0, ""
	for ctx.Err() == nil {
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		healthy := time.NewTimer(b.Healthy)
		var err error
		select {
		case <-healthy.C:
			if said != "" {
				log.Info("recovered")
			}
			failures, said = 0, ""
			err = <-done
		case err = <-done:
			healthy.Stop()
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errEnded
		}
		failures++
		delay := b.delay(failures, rand.Float64())
		var wish Delayer
		if errors.As(err, &wish) {
			delay = min(max(delay, wish.RetryDelay()), longestDelay)
		}
		if now := essence(err); now != said {
			log.Warn("failed, will retry", "err", err, "dur", delay.Round(time.Millisecond))
			said = now
		}
		if t.Waiting != nil {
			t.Waiting(err, delay)
		}
		t.wait(ctx, delay)
	}
	return nil
}

// essence is the error's text without digits, so that another port or address does not make it another failure.
func essence(err error) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
}

func (t Task) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Wake:
	case <-ctx.Done():
	}
}
