package whep_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"gantry/internal/bench/load"
	"gantry/internal/testkit"
)

// Viewers that were answered and never connect keep no place, so that nobody waits for them.
func TestWaitingTakesNoPlace(t *testing.T) {
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	offer := newClient(t, clientOptions{}).offer(nil)
	for i := range 50 {
		if status, _, body := b.do(t, http.MethodPost, b.url+"/whep/demo", "application/sdp", offer, nil); status != http.StatusCreated {
			t.Fatalf("viewer %d: %d %s", i, status, body)
		}
		if n := b.server.Places(); n != 0 {
			t.Fatalf("viewer %d: %d places are held", i, n)
		}
	}
}

// A handshake goes on when there is a place, and has given back what it took when it is done.
func TestHandshakeTakesTurns(t *testing.T) {
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	loop := newLoop(t)
	churn(t, b, loop, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	joined := make(chan error, 1)
	go func() {
		v, err := load.Dial(ctx, loop, b.url+"/whep/demo", load.Options{RTT: 50 * time.Millisecond})
		if err == nil {
			v.Close(ctx, load.Options{})
		}
		joined <- err
	}()
	testkit.Eventually(t, 5*time.Second, "the POST is answered", func() bool { return len(b.server.Viewers("demo")) == 1 })
	release := b.server.Occupy()
	select {
	case err := <-joined:
		release()
		t.Fatalf("the handshake waited for nobody (%v)", err)
	case <-time.After(400 * time.Millisecond): // a handshake at that distance takes half as long
	}
	release()
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "all places are free", func() bool { return b.server.Places() == 0 })
}
