package encoder

import (
	"context"
	"errors"
	"io"
	"sync"

	"gantry/media"
)

// ErrClosed is what Encode and Apply return after Close.
var ErrClosed = errors.New("encoder is closed")

// An Output holds coded packets between an implementation's Encode and Read: one goroutine puts, one reads, any ends it.
// As packets are Go memory, an Encoder may free its library at once on Close and leave the rest to its Output.
type Output struct {
	mu      sync.Mutex
	packets []*media.Packet
	limit   int
	ready   chan struct{} // a packet was put
	space   chan struct{} // a packet was read
	ended   chan struct{}
	err     error
}

// NewOutput returns an Output that Wait holds to limit packets.
func NewOutput(limit int) *Output {
	return &Output{
		limit: limit,
		ready: make(chan struct{}, 1),
		space: make(chan struct{}, 1),
		ended: make(chan struct{}),
	}
}

// Wait waits until fewer than the limit of packets are held. It returns ErrClosed after End.
func (o *Output) Wait(ctx context.Context) error {
	for {
		o.mu.Lock()
		room := len(o.packets) < o.limit
		o.mu.Unlock()
		select {
		case <-o.ended:
			return ErrClosed
		default:
		}
		if room {
			return ctx.Err()
		}
		select {
		case <-o.space:
		case <-o.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Put adds a packet. It never blocks.
func (o *Output) Put(p *media.Packet) {
	o.mu.Lock()
	o.packets = append(o.packets, p)
	o.mu.Unlock()
	signal(o.ready)
}

// Read waits for the next packet. After End it returns what is left, then End's error.
func (o *Output) Read(ctx context.Context) (*media.Packet, error) {
	for {
		if p := o.take(); p != nil {
			return p, nil
		}
		select {
		case <-o.ready:
		case <-o.ended:
			if p := o.take(); p != nil { // put between the first look and the end
				return p, nil
			}
			return nil, o.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (o *Output) take() *media.Packet {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.packets) == 0 {
		return nil
	}
	p := o.packets[0]
	n := copy(o.packets, o.packets[1:]) // a handful: the array stays, nothing is allocated
	o.packets[n] = nil
	o.packets = o.packets[:n]
	signal(o.space)
	return p
}

// End makes Read return err once it has drained, io.EOF for nil. Only the first call counts; no Put comes after it.
func (o *Output) End(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.ended:
		return
	default:
	}
	if err == nil {
		err = io.EOF
	}
	o.err = err
	close(o.ended)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
