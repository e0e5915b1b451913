package media

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Queue joins one producer to one consumer. Push never blocks: when more than limit of media time waits, it drops of each
// track of video what is before the newest key frame that it holds, or, holding none, all of it until the next one. Audio is
// kept, up to four times limit.
type Queue struct {
	limit  time.Duration
	tracks []Track
	ready  chan struct{}
	units  bool // ready tells of whole access units

	mu      sync.Mutex
	packets []*Packet
	needKey uint64 // bit set of the tracks whose packets are dropped until a key frame comes
	err     error
	closed  bool
	dropped uint64
}

// NewQueue returns a Queue for packets of tracks that holds at most limit of media time.
func NewQueue(limit time.Duration, tracks []Track) *Queue {
	return &Queue{limit: limit, tracks: tracks, ready: make(chan struct{}, 1)}
}

// Push appends p. It returns how many packets were dropped to keep the bound, p included, and the bit set of the tracks, by
// their index, that now wait for a key frame that the producer should make.
func (q *Queue) Push(p *Packet) (dropped int, needKey uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 1, 0
	}
	if bit := p.bit(); q.needKey&bit != 0 {
		if !p.Key || !p.Start {
			q.dropped++
			return 1, q.needKey
		}
		q.needKey &^= bit
		p = p.afterLoss()
	}
	q.packets = append(q.packets, p)
	if len(q.packets) > 1 && p.PTS-q.packets[0].PTS > q.limit {
		dropped = q.shorten(p.PTS)
		q.dropped += uint64(dropped)
	}
	if q.units && !p.Start && !p.End && dropped == 0 {
		return dropped, q.needKey
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return dropped, q.needKey
}

func (q *Queue) video(p *Packet) bool {
	return int(p.Track) < len(q.tracks) && q.tracks[p.Track].Codec.Video()
}

// shorten drops what the rules allow when the queue reaches now.
func (q *Queue) shorten(now time.Duration) int {
	dropped := 0
	for track := range q.tracks {
		if q.tracks[track].Codec.Video() {
			dropped += q.skip(uint8(track), now)
		}
	}
	return dropped + q.remove(func(p *Packet) bool { return !q.video(p) && now-p.PTS > 4*q.limit })
}

// skip takes a track of video on to its newest key frame if its oldest packet is too late.
func (q *Queue) skip(track uint8, now time.Duration) int {
	first, key := -1, -1
	for i, p := range q.packets {
		if p.Track != track {
			continue
		}
		if first < 0 {
			if first = i; now-p.PTS <= q.limit {
				return 0
			}
		}
		if p.Key && p.Start {
			key = i
		}
	}
	switch {
	case first < 0:
		return 0
	case key <= first: // no key frame, or only the one that is too late already
		q.needKey |= q.packets[first].bit()
		return q.remove(func(p *Packet) bool { return p.Track == track })
	}
	begin := q.packets[key].afterLoss()
	q.packets[key] = begin
	reached := false
	return q.remove(func(p *Packet) bool {
		reached = reached || p == begin
		return p.Track == track && !reached
	})
}

// remove takes out the packets of which drop says so, which is asked in their order.
func (q *Queue) remove(drop func(*Packet) bool) int {
	kept := slices.DeleteFunc(q.packets, drop)
	dropped := len(q.packets) - len(kept)
	q.packets = kept
	return dropped
}

// bit is p's track in a bit set.
func (p *Packet) bit() uint64 { return 1 << (p.Track & 63) }

// afterLoss returns p marked as following a gap.
func (p *Packet) afterLoss() *Packet {
	marked := *p
	marked.Lost = true
	return &marked
}

// Pull waits for the next packet. After Close it returns what is left, then Close's error.
func (q *Queue) Pull(ctx context.Context) (*Packet, error) {
	for {
		q.mu.Lock()
		if len(q.packets) > 0 {
			p := q.packets[0]
			q.packets[0] = nil
			q.packets = q.packets[1:]
			q.mu.Unlock()
			return p, nil
		}
		if q.closed {
			q.mu.Unlock()
			return nil, q.err
		}
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// PullAll waits for at least one packet, appends all that wait to dst and returns it. After Close it returns what is left,
// then Close's error. A consumer that reuses dst allocates nothing.
func (q *Queue) PullAll(ctx context.Context, dst []*Packet) ([]*Packet, error) {
	for {
		q.mu.Lock()
		if len(q.packets) > 0 {
			dst = append(dst, q.packets...)
			clear(q.packets)
			q.packets = q.packets[:0]
			q.mu.Unlock()
			return dst, nil
		}
		if q.closed {
			q.mu.Unlock()
			return dst, q.err
		}
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return dst, context.Cause(ctx)
		}
	}
}

// Ready delivers a value after Push or Close, for a consumer that waits for other things too; call TakeAll then.
func (q *Queue) Ready() <-chan struct{} { return q.ready }

// ReadyByUnit makes Ready, and what waits in Pull, tell of the beginning and the end of access units alone: a consumer that
// works by whole units is not woken for each piece. Call it before the first Push.
func (q *Queue) ReadyByUnit() { q.units = true }

// TakeAll is PullAll without waiting: dst comes back as it was when nothing waits.
func (q *Queue) TakeAll(dst []*Packet) ([]*Packet, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.packets) == 0 && q.closed {
		return dst, q.err
	}
	dst = append(dst, q.packets...)
	clear(q.packets)
	q.packets = q.packets[:0]
	return dst, nil
}

// Dropped returns how many packets the Queue has dropped so far.
func (q *Queue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Close ends the Queue: pushes are dropped, Pull drains and then returns err. The first Close counts.
func (q *Queue) Close(err error) {
	q.mu.Lock()
	if !q.closed {
		q.closed, q.err = true, err
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
