package whep

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"time"

	"gantry/internal/proto/whip"
)

// A gate bounds how many viewers are joining at a time: what handshakes cost is taken from those who watch. A viewer holds its
// place until it has connected, or for joinTime: who is slow, or never meant to, keeps nobody else out.
type gate chan struct{}

const (
	joinTime = 50 * time.Millisecond // connecting at hand takes less
	joinWait = 5 * time.Second       // longer, and the viewer is better off coming again
)

func newGate() gate { return make(gate, 4*runtime.GOMAXPROCS(0)) }

// enter waits for a place and returns what gives it back, which may be called more than once.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	select {
	case g <- struct{}{}:
	case <-ctx.Done():
		return nil, &whip.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Reason: "too many viewers are joining at this moment"}
	}
	var once sync.Once
	leave = func() { once.Do(func() { <-g }) }
	time.AfterFunc(joinTime, leave)
	return leave, nil
}
