package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"gantry/internal/bench/load"
)

// sums adds up what viewers received.
type sums struct {
	packets, bytes, lost int
	latency              []time.Duration
	profile              string
}

func (s *sums) add(m load.Measure) {
	s.packets += m.Packets
	s.bytes += m.Bytes
	s.lost += m.Lost
	s.latency = append(s.latency, m.Latency...)
	s.profile = m.Profile
}

func total(viewers []*load.Viewer) sums {
	var s sums
	for _, v := range viewers {
		s.add(v.Measure())
	}
	slices.Sort(s.latency)
	return s
}

func (s sums) fill(r *result, cpu time.Duration) {
	if s.packets == 0 {
		return
	}
	r.cpuPerGbit = cpu.Seconds() / (float64(s.bytes) * 8 / 1e9)
	r.perPacket = float64(cpu.Microseconds()) / float64(s.packets)
	r.lost = float64(s.lost) / float64(s.packets+s.lost)
	r.p50, r.p99 = percentile(s.latency, 0.5), percentile(s.latency, 0.99)
	r.profile = s.profile
}

// picture returns the file that holds the picture of a case.
func (b *bench) picture(ctx context.Context, c loadCase) (string, error) {
	file := filepath.Join(b.dir, fmt.Sprintf("%d-%d.h264", c.bitrate, c.slices))
	_, err := load.NewPicture(ctx, c.bitrate, c.slices, file)
	return file, err
}

// dialMany opens n sessions, some at a time.
func dialMany(ctx context.Context, loop *load.Loop, whep string, n int) ([]*load.Viewer, error) {
	var (
		mu      sync.Mutex
		viewers []*load.Viewer
		first   error
		wg      sync.WaitGroup
		slots   = make(chan struct{}, 8)
	)
	// The stream is live when its first packets have come through.
	for i := 0; i < 50; i++ {
		v, err := load.Dial(ctx, loop, whep, load.Options{})
		if err == nil {
			viewers = append(viewers, v)
			break
		}
		first = err
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	if len(viewers) == 0 {
		return nil, first
	}
	first = nil
	for range n - 1 {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			v, err := load.Dial(ctx, loop, whep, load.Options{})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				first = err
				return
			}
			viewers = append(viewers, v)
		})
	}
	wg.Wait()
	return viewers, first
}

func closeMany(viewers []*load.Viewer) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, v := range viewers {
		slots <- struct{}{}
		wg.Go(func() { v.Close(ctx, load.Options{}); <-slots })
	}
	wg.Wait()
}
