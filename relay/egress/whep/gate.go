package whep

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"gantry/internal/proto/whip"
)

// A gate bounds how many joins are computed at a time: what they cost is taken from those who watch. A place is held while this
// side computes, for the answer to a POST and for each flight of the handshake, and by nobody who waits for the other side: who is
// far away, slow, or never meant to connect keeps nobody else out.
type gate chan struct{}

// joinWait is how long a POST waits for a place: any longer, and the viewer is better off coming again.
const joinWait = 5 * time.Second

// newGate returns a gate with a place for each core. Who waits is let in by the order of coming.
func newGate() gate { return make(gate, runtime.GOMAXPROCS(0)) }

// enter waits for a place and returns what gives it back.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g <- struct{}{}:
		return func() { <-g }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// post is enter for a new viewer, who is sent away when it takes too long.
func (g gate) post(ctx context.Context) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	if leave, err = g.enter(ctx); err != nil {
		return nil, &whip.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Reason: "too many viewers are joining at this moment"}
	}
	return leave, nil
}
