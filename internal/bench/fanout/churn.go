package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gantry/internal/bench/load"
)

// held is what a relay holds, by its own metrics.
type held struct {
	heap, rss, goroutines, fds float64
	collected                  float64 // when garbage was, in seconds
}

func (h held) String() string {
	return fmt.Sprintf("%.1f MB heap, %.1f MB resident, %.0f goroutines, %.0f descriptors", h.heap/1e6, h.rss/1e6, h.goroutines, h.fds)
}

// settle is how long what sessions leave may stay: timers, and buffers that are kept for the next ones.
const settle = 30 * time.Second

// look returns what the relay holds when all has settled and it has collected its garbage once more.
func look(ctx context.Context, url string) (least held, err error) {
	if err := pause(ctx, settle); err != nil {
		return held{}, err
	}
	least, err = scrape(ctx, url)
	for last := least; err == nil && last.collected == least.collected; {
		if err = pause(ctx, 50*time.Millisecond); err != nil {
			break
		}
		if last, err = scrape(ctx, url); err == nil && last.collected != least.collected {
			return last, nil
		}
	}
	return least, err
}

func scrape(ctx context.Context, url string) (h held, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return h, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return h, err
	}
	figures := map[string]*float64{"go_memstats_heap_alloc_bytes": &h.heap, "process_resident_memory_bytes": &h.rss,
		"go_goroutines": &h.goroutines, "process_open_fds": &h.fds,
		"go_memstats_last_gc_time_seconds": &h.collected}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if f := figures[name]; f != nil {
			if *f, err = strconv.ParseFloat(value, 64); err != nil {
				return h, fmt.Errorf("read %s: %w", name, err)
			}
		}
	}
	return h, nil
}

// churn lets viewers join and leave beside others that stay, and shows what the relay holds before and after.
func (b *bench) churn(ctx context.Context, g *gantry, c loadCase, cycles int) error {
	file, err := b.picture(ctx, c)
	if err != nil {
		return err
	}
	loop, err := load.NewLoop(b.gro)
	if err != nil {
		return err
	}
	defer loop.Close()
	relay, err := g.start(ctx, b.dir)
	if err != nil {
		return err
	}
	defer relay.stop()
	publisher, err := b.startPublisher(ctx, file, g.whip())
	if err != nil {
		return err
	}
	defer publisher.stop()
	viewers, err := dialMany(ctx, loop, g.whep(), c.viewers)
	defer closeMany(viewers)
	if err != nil {
		return err
	}
	for done, most := 0, min(500, cycles); ; {
		crowd, err := b.startCrowd(ctx, g.whep(), most)
		if err != nil {
			return err
		}
		err = crowd.cmd.Wait()
		fmt.Print(crowd.out)
		if err != nil {
			return err
		}
		done += most
		h, err := look(ctx, fmt.Sprintf("http://127.0.0.1:%d/metrics", g.http))
		if err != nil {
			return err
		}
		fmt.Printf("after %d joins: %v\n", done, h)
		if most = min((cycles+3)/4, cycles-done); most <= 0 {
			return nil
		}
	}
}
