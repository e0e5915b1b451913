package rtmp

import "time"

// wrap is after how long RTMP's times, 32 bits of milliseconds, begin anew (RTMP 1.0 §5.3.1): 49.7 days.
const wrap = (1 << 32) * time.Millisecond

// A clock unwraps the times of one connection. The zero value is ready.
type clock struct{ begun, newest time.Duration }

// at returns t without the wrap, near the time before.
func (c *clock) at(t time.Duration) time.Duration {
	switch t += c.begun; {
	case t < c.newest-wrap/2:
		c.begun += wrap
		t += wrap
	case t > c.newest+wrap/2 && c.begun > 0: // the other track is a little behind
		return t - wrap
	}
	c.newest = t
	return t
}
