// Package udp receives an MPEG transport stream in UDP datagrams, unicast or multicast, bare or in RTP (RFC 2250), and passes its H.264,
// H.265, AAC and Opus on as they come, as access units on this machine's clock. It implements device.PacketSource.
//
// It decodes nothing. A stream that falls silent is ErrNoSignal: the socket stays open.
package udp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/proto/mpegts"
	"gantry/media"
)

const (
	silent     = 3 * time.Second // without a datagram: there is no signal
	queueLimit = time.Second     // of media that waits for Read
	socketRoom = 4 << 20         // bytes that the kernel may hold; it grants what net.core.rmem_max allows
)

// A Source is one socket. It implements device.PacketSource.
type Source struct {
	config Config
	log    *slog.Logger
	conn   *net.UDPConn // nil while it is not open
	run    *session     // nil while not started
	told   bool         // Start has said that nothing comes
}

var _ device.PacketSource = (*Source)(nil)

// New returns a Source for a valid Config. It opens nothing.
func New(c Config, log *slog.Logger) *Source { return &Source{config: c, log: log} }

// A session is the time from one Start to the next.
type session struct {
	input  *datagrams
	done   chan struct{}
	tracks chan []media.Track // of the first programme
	follow clock.Follower
	queue  atomic.Pointer[media.Queue]
	last   []time.Duration // newest DTS by track
	err    error           // why reading ended, once done is closed
}

// Start implements device.PacketSource: it waits for a programme.
func (s *Source) Start(ctx context.Context) ([]media.Track, error) {
	s.end()
	if s.conn == nil {
		conn, err := s.config.listen()
		if err != nil {
			return nil, fmt.Errorf("receive %s: %w", s.config.URL(), err)
		}
		s.conn = conn
	}
	run := &session{input: &datagrams{conn: s.conn}, done: make(chan struct{}), tracks: make(chan []media.Track, 1)}
	s.run = run
	_ = s.conn.SetReadDeadline(time.Time{})
	go func() {
		defer close(run.done)
		run.err = run.read(s.log)
		if q := run.queue.Load(); q != nil {
			q.Close(run.err)
		}
	}()
	patience := time.NewTimer(silent)
	defer patience.Stop()
	for {
		select {
		case tracks := <-run.tracks:
			s.told = false
			run.input.watch.Store(true)
			return tracks, nil
		case <-run.done:
			err := fmt.Errorf("receive %s: %w", s.config.URL(), run.err)
			s.end()
			return nil, err
		case <-patience.C:
			if !s.told {
				s.told = true
				s.end()
				return nil, fmt.Errorf("%w: nothing comes to %s, or no MPEG-TS", device.ErrNoSignal, s.config.URL())
			}
		case <-ctx.Done():
			s.end()
			return nil, ctx.Err()
		}
	}
}

// read delivers what comes until the socket is closed, falls silent, or its programme changes.
func (r *session) read(log *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil { // a parser's: the bytes are anybody's
			log.Error("parser failed on what a sender sent", "err", fmt.Sprint(p))
			err = fmt.Errorf("a parser failed: %v: %w", p, device.ErrGone)
		}
	}()
	units := &mpegts.Units{Log: log}
	begun := false
	units.Begin = func(tracks []media.Track) error {
		if begun {
			return fmt.Errorf("the MPEG-TS programme changed: %w", device.ErrFormatChanged)
		}
		begun = true
		r.last = slices.Repeat([]time.Duration{-time.Hour}, len(tracks))
		r.queue.Store(media.NewQueue(queueLimit, tracks))
		r.tracks <- tracks
		return nil
	}
	units.Packet = func(p *media.Packet) {
		delay := p.PTS - p.DTS
		p.DTS = max(r.follow.At(p.DTS, clock.Now()), r.last[p.Track]+time.Millisecond/10)
		p.PTS = p.DTS + delay
		r.last[p.Track] = p.DTS
		r.queue.Load().Push(p)
	}
	err = mpegts.Read(r.input, units, log)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("%w: nothing has come for %v", device.ErrNoSignal, silent)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("the socket was closed: %w", device.ErrGone)
	}
	return err
}

// end ends a run and waits for it.
func (s *Source) end() {
	if s.run == nil {
		return
	}
	s.run.input.watch.Store(false)
	s.run.input.stop.Store(true)
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	<-s.run.done
	s.run = nil
}

// Read implements device.PacketSource. What waits for longer than a second is dropped up to a key frame.
func (s *Source) Read(ctx context.Context) (*media.Packet, error) {
	if s.run == nil {
		return nil, errors.New("udp: not started")
	}
	return s.run.queue.Load().Pull(ctx)
}

// Close closes the socket.
func (s *Source) Close() error {
	s.end()
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}
