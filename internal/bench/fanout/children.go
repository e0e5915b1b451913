package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/bench/load"
)

// A child is what this program is when it has started itself: publishers and crowds have a process of their own, so that what
// one of them does is not waited for by another, which would count as the relay's latency.
type child struct {
	limit     string // be the limit, with this picture
	publisher string // publish to this URL
	picture   string // file
	obeys     bool
	crowd     string // join and leave at this URL
	perSecond int    // 0: as fast as can be
	cycles    int    // 0: until told to end
	rtt       time.Duration
}

// errNone: this process is nobody's child.
var errNone = errors.New("no child")

func (c *child) run(ctx context.Context) error {
	switch {
	case c.limit != "":
		return limit(ctx, c.limit)
	case c.publisher != "":
		return c.publish(ctx)
	case c.crowd != "":
		return c.join(ctx)
	}
	return errNone
}

// publish tries until the server is up, says so, and publishes until ctx ends.
func (c *child) publish(ctx context.Context) error {
	picture, err := load.NewPicture(ctx, 0, 0, c.picture) // it is there
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		p, err := load.Publish(ctx, picture, c.publisher, c.obeys)
		if err == nil {
			fmt.Println("publishing")
			<-ctx.Done()
			p.Close()
			return nil
		}
		if i == 50 || pause(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// startPublisher returns when the publisher publishes.
func (b *bench) startPublisher(ctx context.Context, picture, whip string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := launch(ctx, nil, w, self, "-child-publisher", whip, "-child-picture", picture, "-obeys="+strconv.FormatBool(b.obeys))
	_ = w.Close()
	if err != nil {
		return nil, err
	}
	var line [16]byte
	if _, err := io.ReadAtLeast(r, line[:], 1); err != nil { // it has ended
		p.stop()
		return nil, fmt.Errorf("publish: %w", err)
	}
	return p, nil
}

// crowdNice is the niceness of who joins and leaves: it stands for many machines, and takes what this one has left.
const crowdNice = 10

// join opens and closes so many sessions a second.
func (c *child) join(ctx context.Context) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, crowdNice); err != nil {
		return fmt.Errorf("be nice: %w", err)
	}
	loop, err := load.NewLoop(false)
	if err != nil {
		return err
	}
	defer loop.Close()
	every := time.Microsecond
	if c.perSecond > 0 {
		every = time.Second / time.Duration(c.perSecond)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var joined, failed int
	var first error
	var mu sync.Mutex
	options := load.Options{RTT: c.rtt}
	slots := make(chan struct{}, 64+int(c.rtt.Seconds()*10*float64(c.perSecond))) // who is far away takes some round trips
	began := time.Now()
	for i := 0; ctx.Err() == nil && (c.cycles == 0 || i < c.cycles); i++ {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			v, err := load.Dial(ctx, loop, c.crowd, options)
			if err == nil {
				v.Close(context.WithoutCancel(ctx), options)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				joined++
			} else if ctx.Err() == nil {
				failed++
				first = cmp.Or(first, err)
			}
		})
	}
	wg.Wait()
	fmt.Fprintf(os.Stderr, "crowd: %d joined and left, %d failed, %.0f a second\n", joined, failed, float64(joined)/time.Since(began).Seconds())
	if first != nil {
		fmt.Fprintln(os.Stderr, "the first failed:", first)
	}
	return nil
}

// startCrowd has viewers join and leave.
func (b *bench) startCrowd(ctx context.Context, whep string, cycles int) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return launch(ctx, nil, nil, self, "-child-crowd", whep, "-child-rate", strconv.Itoa(b.storm), "-child-cycles", strconv.Itoa(cycles),
		"-child-rtt", b.rtt.String())
}
