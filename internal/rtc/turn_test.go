package rtc

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
)

// Whatever order a handshake's end, its reader and the place come in, what was taken is given back once.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places, taken := make(chan struct{}, 1), 0
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		newTurns := func() *turns {
			return &turns{ctx: ctx, take: func(ctx context.Context) (func(), error) {
				select {
				case places <- struct{}{}:
					taken++
					return func() { <-places }, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}}
		}
		a := newTurns()
		for range 2 { // two records, the second without an answer in between
			if err := a.begin(); err != nil {
				t.Fatal(err)
			}
		}
		b := newTurns()
		begun := make(chan error)
		go func() { begun <- b.begin() }()
		synctest.Wait() // b waits for a's place
		b.finish()      // its handshake has failed
		a.end()
		if err := <-begun; err != nil || len(places) != 0 || taken != 2 {
			t.Errorf("%v, %d places held, %d taken", err, len(places), taken)
		}
		a.end()
		if err := a.begin(); err != nil || len(places) != 1 {
			t.Errorf("%v, %d places held", err, len(places))
		}
		a.finish()
		a.finish()
		if err := a.begin(); err != nil || len(places) != 0 {
			t.Errorf("connected: %v, %d places held", err, len(places))
		}
		places <- struct{}{}
		c := newTurns()
		go func() { begun <- c.begin() }()
		synctest.Wait()
		cancel()
		if err := <-begun; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while it waited: %v", err)
		}
	})
}
