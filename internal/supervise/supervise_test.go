package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var errBroken = errors.New("broken")

func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestDelays(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 10 * time.Second, Jitter: 0.5}
	for failures, want := range map[int]time.Duration{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10, 1000000: 10} {
		if got := b.delay(failures, 0.5); got != want*time.Second {
			t.Errorf("delay after %d failures %v, want %v", failures, got, want*time.Second)
		}
	}
	if lo, hi := b.delay(1, 0), b.delay(1, 1); lo != 500*time.Millisecond || hi != 1500*time.Millisecond {
		t.Errorf("jitter from %v to %v", lo, hi)
	}
}

func TestKeepRetriesAndLogsStateChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var tries []time.Duration
		b := Backoff{Min: time.Second, Max: 4 * time.Second, Healthy: 5 * time.Second}
		err := Keep(ctx, logTo(&log), b, "relay", func(ctx context.Context) error {
			tries = append(tries, time.Since(start))
			switch len(tries) {
			case 1, 2, 3, 4:
				return fmt.Errorf("dial 127.0.0.1:%d: %w", 40000+len(tries), errBroken)
			case 5:
				time.Sleep(20 * time.Second) // healthy for a while
				return nil
			case 6:
				return errBroken
			}
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil {
			t.Error(err)
		}
		want := []time.Duration{0, 1, 3, 7, 11, 32, 34}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(tries, want) {
			t.Errorf("tries at %v, want %v", tries, want)
		}
		wantLog := `level=WARN msg="failed, will retry" task=relay err="dial 127.0.0.1:40001: broken" dur=1s
level=INFO msg=recovered task=relay
level=WARN msg="failed, will retry" task=relay err="ended by itself" dur=1s
level=WARN msg="failed, will retry" task=relay err=broken dur=2s
`
		if log.String() != wantLog {
			t.Errorf("log\n%swant\n%s", &log, wantLog)
		}
	})
}

func TestKeepHonoursTheDelayOfAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var second time.Duration
		var told time.Duration
		task := Task{Log: slog.New(slog.DiscardHandler), Backoff: Backoff{Min: time.Second}, Waiting: func(err error, d time.Duration) {
			if !errors.Is(err, errBroken) {
				t.Errorf("told %v", err)
			}
			told = d
		}}
		n := 0
		_ = task.Keep(ctx, func(context.Context) error {
			if n++; n == 1 {
				return fmt.Errorf("publish: %w", After(errBroken, 30*time.Second))
			}
			second = time.Since(start)
			cancel()
			return nil
		})
		if second != 30*time.Second || told != second {
			t.Errorf("second try after %v, told %v", second, told)
		}
	})
}

func TestKeepEndsDuringADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := Keep(ctx, slog.New(slog.DiscardHandler), Backoff{}, "x", func(context.Context) error {
			return After(errBroken, 1000*time.Hour)
		}); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("ended after %v", d)
		}
	})
}

func TestGroupStopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var stops []string
		g := NewGroup(slog.New(slog.DiscardHandler))
		for i, name := range []string{"device", "encoder", "uplink"} {
			g.Add(name, 10*time.Second, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Duration(3-i) * time.Second) // draining; the last is the quickest
				stops = append(stops, name)
				return nil
			})
		}
		start := time.Now()
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
		if !slices.Equal(stops, []string{"device", "encoder", "uplink"}) || time.Since(start) != 66*time.Second {
			t.Errorf("stopped %v after %v", stops, time.Since(start))
		}
	})
}

func TestGroupEndsWithItsFirstMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(slog.New(slog.DiscardHandler))
		g.Add("device", time.Second, func(ctx context.Context) error { <-ctx.Done(); return nil })
		g.Add("web", time.Second, func(ctx context.Context) error { return errBroken })
		if err := g.Run(t.Context()); !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "web: ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestGroupNamesWhoDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release := make(chan struct{})
		last := false
		g := NewGroup(slog.New(slog.DiscardHandler))
		g.Add("stuck", time.Second, func(context.Context) error { <-release; return nil })
		g.Add("next", time.Second, func(ctx context.Context) error { <-ctx.Done(); last = true; return nil })
		err := g.Run(ctx)
		var stuck *StuckError
		if !errors.As(err, &stuck) || stuck.Name != "stuck" || !last {
			t.Errorf("got %v, next stopped: %v", err, last)
		}
		close(release)
	})
}

// Word that what the work waits for has come ends the delay.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{}, 1)
		began, tries := time.Now(), 0
		task := Task{Log: slog.New(slog.DiscardHandler), Backoff: Backoff{Min: time.Minute, Jitter: 0}, Wake: wake}
		time.AfterFunc(time.Second, func() { wake <- struct{}{} })
		_ = task.Keep(ctx, func(context.Context) error {
			if tries++; tries == 2 {
				cancel()
			}
			return errBroken
		})
		if took := time.Since(began); took != time.Second {
			t.Errorf("the second try came after %v", took)
		}
	})
}
