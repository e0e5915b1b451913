// Package uplink says what sends a programme to one destination. Its sub-packages implement it, one protocol a folder; only
// cmd/gantryd chooses among them.
//
// It knows no device, no encoder and no configuration file, and it does not retry: internal/supervise does.
package uplink

import (
	"context"
	"errors"
	"time"

	"gantry/media"
)

var (
	// ErrRefused: the destination refused for good (wrong token, bad request). Retrying soon will not help; a person must act.
	ErrRefused = errors.New("refused")
)

// A RetryAfter is an error of a destination that said when to come back (HTTP's Retry-After, RFC 9110 §10.2.3).
type RetryAfter struct {
	After time.Duration
	Err   error
}

func (e *RetryAfter) Error() string { return e.Err.Error() }
func (e *RetryAfter) Unwrap() error { return e.Err }

// RetryDelay returns After: it is how internal/supervise asks.
func (e *RetryAfter) RetryDelay() time.Duration { return e.After }

// A Program is what a Sender sends: tracks of access units and the Queue that holds them.
type Program struct {
	Tracks  []media.Track
	Packets *media.Queue
	// Wall maps a PTS to wall time, for RTCP sender reports and capture-time marks.
	Wall func(pts time.Duration) time.Time
	// Feedback takes what the destination says; it never blocks.
	Feedback func(media.Feedback)
	// Connected, if set, is called once when media begins to flow.
	Connected func()
	// Path, if set, tells how many bit/s the path of another destination carries now, by its name; 0 while it is not
	// connected, or not known.
	Path func(name string) int
}

// A Sender serves one destination.
type Sender interface {
	// Run makes one connection and sends until ctx ends, which is nil after a clean goodbye, or returns why the connection
	// was lost. It returns after its last goroutine.
	Run(ctx context.Context, p Program) error
}

// Stats is what a Sender knows of its connection. Counters grow from one connection to the next; the rest is of the current one.
// 0 is not known.
type Stats struct {
	Remote        string        // host:port that media goes to
	Peers         int           // who receives, where several can
	RTT           time.Duration // round trip
	Loss          float64       // share of packets lost lately on the way, 0…1, before they were sent again
	Buffered      time.Duration // age of what was sent and is not acknowledged
	Packets       uint64        // sent, repeats included
	Bytes         uint64        // sent
	Retransmitted uint64        // packets sent again
	Dropped       uint64        // packets given up as too late, or not taken by the path
	Estimate      int           // bit/s that the path is believed to carry
	Paths         []Path        // of a destination that is sent to over several networks at once, each
	Warning       string        // what a person should know although it works, in words; empty: nothing
}

// A Path is one of several networks over which a programme goes to one destination. Its counters grow as those of Stats do.
type Path struct {
	Name          string // of the interface
	Connected     bool
	Remote        string
	RTT           time.Duration
	Loss          float64 // share of packets lost lately
	Bytes         uint64
	Retransmitted uint64
	Dropped       uint64
	Estimate      int // bit/s that it is believed to carry
}

// A Reporter is a Sender that keeps statistics. Stats may be called at any time and is quick.
type Reporter interface {
	Stats() Stats
}
