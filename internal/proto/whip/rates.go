package whip

import (
	"net/netip"
	"sync"
	"time"
)

// maxAddresses bounds what rates remembers. Beyond it, addresses that have been quiet long enough are forgotten, and if there
// are none, all.
const maxAddresses = 16384

// rates is a token bucket for each client address.
type rates struct {
	rate, burst float64

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newRates(rate float64, burst int) *rates {
	return &rates{rate: rate, burst: float64(burst), buckets: map[netip.Prefix]bucket{}}
}

// allow takes a token for addr. A nil receiver, and loopback, have no limit.
func (r *rates) allow(addr netip.Addr, now time.Time) bool {
	if addr = addr.Unmap(); r == nil || addr.IsLoopback() || !addr.IsValid() {
		return true
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64 // what one customer commonly has
	}
	key, _ := addr.WithZone("").Prefix(bits)
	r.mu.Lock()
	defer r.mu.Unlock()
	b, known := r.buckets[key]
	if !known {
		if len(r.buckets) >= maxAddresses {
			r.forget(now)
		}
		b = bucket{tokens: r.burst, at: now}
	}
	b.tokens = min(r.burst, b.tokens+r.rate*now.Sub(b.at).Seconds())
	b.at = now
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	r.buckets[key] = b
	return ok
}

func (r *rates) forget(now time.Time) {
	for key, b := range r.buckets {
		if b.tokens+r.rate*now.Sub(b.at).Seconds() >= r.burst {
			delete(r.buckets, key)
		}
	}
	if len(r.buckets) >= maxAddresses {
		clear(r.buckets)
	}
}
