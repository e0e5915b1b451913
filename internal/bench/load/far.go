package load

import (
	"time"
)

// far is the way of a client far away: what it sends leaves later, in the same order. It is for a handshake: what more than some
// packets wait at a time is lost.
type far struct {
	delay time.Duration
	send  func([]byte)
	queue chan letter
}

type letter struct {
	due time.Time
	b   []byte
}

func newFar(delay time.Duration, send func([]byte)) *far {
	return &far{delay: delay, send: send, queue: make(chan letter, 64)}
}

func (f *far) put(b []byte) {
	select {
	case f.queue <- letter{time.Now().Add(f.delay), append([]byte(nil), b...)}:
	default:
	}
}

// run sends what is due until stop is closed.
func (f *far) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case l := <-f.queue:
			timer.Reset(time.Until(l.due))
			select {
			case <-timer.C:
				f.send(l.b)
			case <-stop:
				return
			}
		case <-stop:
			return
		}
	}
}
