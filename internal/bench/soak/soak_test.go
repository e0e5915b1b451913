package soak

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"gantry/internal/bench/load"
	"gantry/internal/testkit"
)

// Of the soak.
const (
	shortSoak  = 5 * time.Minute // what CI has time for
	audience   = 15              // viewers that stay
	joinEvery  = time.Second
	stayMost   = 20 * time.Second
	loss       = 0.01
	publishFor = 20 * time.Second // until a publisher restarts, or moves, or crashes
)

// duration is what DURATION says; 0: nothing.
func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DURATION")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("DURATION: %v", err)
	}
	return d
}

// For an hour, or as DURATION says, viewers join each second at 1 % of loss, some leave without a word, publishers restart, move
// and hang. Those who stay see the stream all the time, and in the end the relay holds what it held.
func TestSoak(t *testing.T) {
	long := shortSoak
	if d := duration(t); d > 0 {
		long = d
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	shown, _ := picture(t)
	relay, base := startRelay(t, exec.Command, "127.0.0.1")
	loop, err := load.NewLoop(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(loop.Close)
	loop.Loss = loss

	whip := base + "/whip/demo?token=" + token
	publisher, err := load.Publish(ctx, shown, whip, true)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 20*time.Second, "the stream is live", func() bool { return live(base) })
	s := &soak{t: t, loop: loop, whep: base + "/whep/demo"}
	s.watch(ctx, audience)
	if err := pause(ctx, 5*time.Second); err != nil {
		t.Fatal("DURATION is too short")
	}
	before, err := hold(relay, base)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%8v %v", time.Duration(0), before)

	var work sync.WaitGroup
	work.Go(func() { s.churn(ctx) })
	work.Go(func() { publisher = s.republish(ctx, publisher, shown, whip) })
	begun := time.Now()
	lines := time.NewTicker(max(long/20, 10*time.Second))
	defer lines.Stop()
	for ctx.Err() == nil {
		select {
		case <-lines.C:
			if h, err := hold(relay, base); err != nil {
				t.Error(err)
			} else {
				t.Logf("%8v %v", time.Since(begun).Round(time.Second), h)
			}
		case <-ctx.Done():
		}
	}
	work.Wait()
	seen, least := s.seen()
	var after held
	// Those who vanished without a word are given up after half a minute.
	deadline := time.Now().Add(45 * time.Second)
	for {
		if after, err = hold(relay, base); err != nil {
			t.Fatal(err)
		}
		if after.viewers <= before.viewers && after.goroutines <= before.goroutines+10 && after.descriptors <= before.descriptors+5 || time.Now().After(deadline) {
			break
		}
		_ = pause(t.Context(), time.Second)
	}
	t.Logf("%8s %v", "after", after)
	t.Logf("%d joined and left beside %d who stayed, %d of those vanished without a word, %d joins failed; %d times a publisher came anew; packets: %+v", s.joined, audience, s.vanished, s.failed, s.published, seen)
	t.Logf("of those who stayed, each saw at least %d of some %d pictures", least, int(long.Seconds()*float64(shown.Rate)))
	switch {
	case after.viewers != audience:
		t.Errorf("%v viewers at the end, want %d", after.viewers, audience)
	case after.goroutines > before.goroutines+10 || after.descriptors > before.descriptors+5:
		t.Error("goroutines or descriptors leak")
	case after.heap > before.heap+16e6+float64(s.joined)*2e3: // the histories breathe
		t.Error("the heap grows")
	}
	if s.failed*20 > s.joined {
		t.Error("too many joins failed")
	}
	if float64(least) < 0.8*long.Seconds()*float64(shown.Rate) {
		t.Error("a viewer who stayed missed too much")
	}
	for _, v := range s.stayed {
		v.Close(t.Context(), load.Options{})
	}
	publisher.Close()
}

// A soak is its viewers and what has happened to them.
type soak struct {
	t      *testing.T
	loop   *load.Loop
	whep   string
	stayed []*load.Viewer

	mu                                  sync.Mutex
	joined, vanished, failed, published int
}

// watch opens the sessions of those who stay.
func (s *soak) watch(ctx context.Context, n int) {
	s.t.Helper()
	for range n {
		v, err := load.Dial(ctx, s.loop, s.whep, load.Options{Mend: true})
		if err != nil {
			s.t.Fatal(err)
		}
		s.stayed = append(s.stayed, v)
	}
}

// churn lets a viewer join each second, and stay for some time.
func (s *soak) churn(ctx context.Context) {
	var viewers sync.WaitGroup
	defer viewers.Wait()
	for pause(ctx, joinEvery) == nil {
		viewers.Go(func() {
			dial, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			v, err := load.Dial(dial, s.loop, s.whep, load.Options{Mend: true})
			s.mu.Lock()
			s.joined++
			if err != nil {
				s.failed++
			}
			s.mu.Unlock()
			if err != nil {
				s.t.Logf("join: %v", err)
				return
			}
			_ = pause(ctx, rand.N(stayMost))
			if rand.IntN(5) == 0 {
				v.Vanish()
				s.mu.Lock()
				s.vanished++
				s.mu.Unlock()
				return
			}
			v.Close(dial, load.Options{})
		})
	}
}

// republish has the publisher restart, move to another address, or hang and be replaced, in turn. It returns the last one.
func (s *soak) republish(ctx context.Context, p *load.Publisher, shown *load.Picture, whip string) *load.Publisher {
	for turn := 0; pause(ctx, publishFor) == nil; turn++ {
		if turn%3 == 1 {
			if err := p.Restart(ctx); err != nil && ctx.Err() == nil {
				s.t.Errorf("publisher moves: %v", err)
			}
			continue
		}
		old := p
		if turn%3 == 0 {
			old.Close()
		} else {
			old.Pause()
		}
		next, err := load.Publish(context.WithoutCancel(ctx), shown, whip, true)
		if err != nil {
			s.t.Errorf("publisher returns: %v", err)
			return p
		}
		s.published++
		if turn%3 != 0 {
			old.Close()
		}
		p = next
	}
	return p
}

// seen sums up what those who stayed asked for, and returns the fewest pictures that one of them received whole.
func (s *soak) seen() (sum load.Mended, least int) {
	least = 1 << 40
	for _, v := range s.stayed {
		m := v.Mended()
		sum.Add(m)
		least = min(least, m.Pictures)
	}
	return sum, least
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
