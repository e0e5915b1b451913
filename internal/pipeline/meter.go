package pipeline

import (
	"sync"
	"time"
)

// A meter counts pieces and bytes and how many of them come in a second.
type meter struct {
	mu     sync.Mutex
	pieces uint64
	bytes  uint64
	window [2]mark // the beginning of the last whole second and of the current one
}

type mark struct {
	at            time.Duration
	pieces, bytes uint64
}

func (m *meter) add(now time.Duration, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pieces++
	m.bytes += uint64(bytes)
	switch here := (mark{now, m.pieces, m.bytes}); { // a window begins after the piece that opens it
	case m.pieces == 1:
		m.window = [2]mark{here, here}
	case now-m.window[1].at >= time.Second:
		m.window = [2]mark{m.window[1], here}
	}
}

// read returns the totals, and pieces and bits per second over the last one or two seconds: 0 when nothing came in two.
func (m *meter) read(now time.Duration) (pieces, bytes uint64, rate, bps float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := m.window[0]
	if now-m.window[1].at > 2*time.Second {
		from = mark{now, m.pieces, m.bytes}
	}
	if d := (now - from.at).Seconds(); d > 0 && m.pieces > 0 {
		rate = float64(m.pieces-from.pieces) / d
		bps = float64(m.bytes-from.bytes) * 8 / d
	}
	return m.pieces, m.bytes, rate, bps
}
