package whip

import (
	"sync"
	"sync/atomic"
	"time"

	"gantry/uplink"
)

// A Detail is what a Sender knows beyond uplink.Stats. Counters grow over all its sessions.
type Detail struct {
	uplink.Stats
	Connected bool
	Transport string // udp or tcp
	NACKs     uint64 // packets asked for again
	PLIs      uint64 // key frames asked for, by PLI or FIR
	Restarts  uint64 // ICE restarts
}

// counters are what a Detail is read from.
type counters struct {
	packets, bytes, retransmitted, nacks, plis, dropped, restarts atomic.Uint64
	rtxBytes                                                      atomic.Uint64

	mu      sync.Mutex
	current Detail // of the session; the counters are above
	reports [8]sentReport
	at      int
}

// A sentReport remembers when a sender report left, to find the round trip in the receiver report that answers it.
type sentReport struct {
	ssrc, ntp uint32
	sent      time.Time
}

// sent counts a packet of size bytes for which the writer returned n and err.
func (c *counters) sent(pkt *packet, size, n int, err error) {
	if err != nil || n == 0 {
		c.dropped.Add(1)
		return
	}
	c.packets.Add(1)
	c.bytes.Add(uint64(size))
	if pkt.resend && !pkt.filler {
		c.retransmitted.Add(1)
		c.rtxBytes.Add(uint64(size))
	}
}

// reported remembers a sender report by the middle 32 bits of its NTP timestamp, which the receiver sends back. Its NTP time
// is that of the capture, so the round trip cannot be computed from it alone.
func (c *counters) reported(ssrc, ntp uint32, now time.Time) {
	c.mu.Lock()
	c.reports[c.at%len(c.reports)] = sentReport{ssrc, ntp, now}
	c.at++
	c.mu.Unlock()
}

// answered takes a reception report block (RFC 3550 §6.4.1): last is the report it answers, delay the time since, in 1/65536 s.
func (c *counters) answered(ssrc, last, delay uint32, loss uint8, video bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if video {
		c.current.Loss = float64(loss) / 256
	}
	for _, r := range c.reports {
		if r.ssrc == ssrc && r.ntp == last && last != 0 {
			if rtt := now.Sub(r.sent) - time.Duration(delay)*time.Second/65536; rtt > 0 {
				c.current.RTT = rtt
			}
		}
	}
}

func (c *counters) update(f func(*Detail)) {
	c.mu.Lock()
	f(&c.current)
	c.mu.Unlock()
}

func (c *counters) rtt() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.RTT
}

func (c *counters) snapshot() Detail {
	c.mu.Lock()
	s := c.current
	c.mu.Unlock()
	s.Packets, s.Bytes, s.Dropped = c.packets.Load(), c.bytes.Load(), c.dropped.Load()
	s.Retransmitted, s.NACKs, s.PLIs, s.Restarts = c.retransmitted.Load(), c.nacks.Load(), c.plis.Load(), c.restarts.Load()
	return s
}
