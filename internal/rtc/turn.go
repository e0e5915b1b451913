package rtc

import (
	"context"
	"net"
	"sync"
)

// turns are a Peer's while it shakes hands: it holds one while DTLS computes, and none while it waits for the other side, so that
// who is far away, or never answers, keeps nobody else out.
type turns struct {
	take func(context.Context) (giveBack func(), err error) // Events.Turn; nil: nobody counts
	ctx  context.Context                                    // ends the wait for one

	mu   sync.Mutex
	held func() // gives back what is held; nil: nothing is
	over bool
}

// begin waits for a turn. DTLS's reader calls it when a record has come.
func (t *turns) begin() error {
	t.mu.Lock()
	idle := t.take == nil || t.over || t.held != nil
	t.mu.Unlock()
	if idle {
		return nil
	}
	giveBack, err := t.take(t.ctx)
	if err != nil {
		return net.ErrClosed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		giveBack()
	} else {
		t.held = giveBack
	}
	return nil
}

// end gives the turn back. DTLS's reader calls it when it asks for the next record, for it has dealt with the last one then.
func (t *turns) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil {
		t.held()
		t.held = nil
	}
}

// finish ends the last turn: the handshake is over.
func (t *turns) finish() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.end()
}
