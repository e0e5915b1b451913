package main

import (
	"context"
	"fmt"
	"os"
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

func total(viewers []*load.Viewer) sums {
	var s sums
	for _, v := range viewers {
		m := v.Measure()
		s.packets += m.Packets
		s.bytes += m.Bytes
		s.lost += m.Lost
		s.latency = append(s.latency, m.Latency...)
		s.profile = m.Profile
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

// picture returns the picture of that bit rate and the file that holds it.
func (b *bench) picture(ctx context.Context, bitrate int) (*load.Picture, string, error) {
	file := filepath.Join(b.dir, fmt.Sprintf("%d.h264", bitrate))
	p, err := load.NewPicture(ctx, bitrate, b.slices, file)
	return p, file, err
}

// publish tries until the server is up.
func publish(ctx context.Context, p *load.Picture, whip string, obeys bool) (*load.Publisher, error) {
	for i := 0; ; i++ {
		publisher, err := load.Publish(ctx, p, whip, obeys)
		if err == nil || i == 50 {
			return publisher, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
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

// joinAndLeave opens and closes so many sessions a second until ctx ends.
func joinAndLeave(ctx context.Context, loop *load.Loop, whep string, perSecond int) {
	if perSecond == 0 {
		return
	}
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var joined, failed int
	var mu sync.Mutex
	slots := make(chan struct{}, 64)
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			fmt.Fprintf(os.Stderr, "storm: %d joined and left, %d failed\n", joined, failed)
			return
		case <-ticker.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		wg.Go(func() {
			v, err := load.Dial(ctx, loop, whep, load.Options{})
			if err == nil {
				v.Close(context.WithoutCancel(ctx), load.Options{})
			}
			mu.Lock()
			if err == nil {
				joined++
			} else if ctx.Err() == nil {
				failed++
			}
			mu.Unlock()
			<-slots
		})
	}
}
