package load

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// Payload types of H.264 and Opus.
const (
	VideoType = videoType
	SoundType = 111
)

// A Counter counts the RTP packets that a Socket receives, and measures the latency of pictures by an RTP time that tells when
// they were sent, in microseconds of Unix time.
type Counter struct {
	mu sync.Mutex
	m  Measure
}

// Receive counts one packet.
func (c *Counter) Receive(b []byte, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.Packets++
	c.m.Bytes += len(b)
	if len(b) >= 12 && b[1] == 0x80|VideoType {
		late := int32(uint32(at.UnixMicro()) - binary.BigEndian.Uint32(b[4:]))
		c.m.Latency = append(c.m.Latency, time.Duration(late)*time.Microsecond)
	}
}

// Take returns what has been received since the last call.
func (c *Counter) Take() Measure {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.m
	m.Latency = slices.Clone(m.Latency)
	c.m = Measure{Latency: c.m.Latency[:0]}
	return m
}
