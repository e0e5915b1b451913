package testsrc

import (
	"context"
	"fmt"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/media"
)

// poolSize is how many pictures may be under way at once: one waiting, one being encoded, and a few in the encoder's
// look-ahead. With all out, pictures are left out.
const poolSize = 8

// A Source draws moving pictures. It implements device.Source.
type Source struct {
	config  Config
	painter *painter
	pool    *media.Pool
	timer   *time.Timer
	grid    grid
	first   int64 // number on the grid of the picture with counter 0
	next    int64 // number on the grid of the next picture
}

// New returns a Source for a valid Config.
func New(c Config) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("test source: %w", err)
	}
	return &Source{config: c}, nil
}

var _ device.Source = (*Source)(nil)

// Start begins a new run of pictures, with the counter at 0. There is always a signal.
func (s *Source) Start(ctx context.Context) (media.VideoFormat, error) {
	if s.painter == nil {
		s.painter = newPainter(s.config.Format())
		s.pool = media.NewPool(s.config.Format(), poolSize)
		s.timer = time.NewTimer(time.Hour)
	}
	s.grid = newGrid(s.config.Rate)
	s.first = s.grid.after(clock.Now())
	s.next = s.first
	return s.config.Format(), ctx.Err()
}

// Read waits for the next picture. Its PTS is exactly on the grid, its Seq the burnt-in counter.
func (s *Source) Read(ctx context.Context) (*media.Frame, error) {
	if s.painter == nil {
		return nil, fmt.Errorf("read from the test source before Start: %w", device.ErrGone)
	}
	for {
		now := clock.Now()
		if s.grid.at(s.next+1) <= now { // late by a whole picture: leave out what nobody waited for
			s.next = s.grid.after(now) - 1
		}
		pts := s.grid.at(s.next)
		if pts > now {
			s.timer.Reset(pts - now)
			select {
			case <-s.timer.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		}
		n := uint32(s.next - s.first)
		s.next++
		f := s.pool.Get()
		if f == nil {
			continue // all pictures are still in use: this one is lost
		}
		f.PTS, f.Seq = pts, n
		mark := markAt(n, clock.Wall(pts))
		err := f.CPU(func(planes [][]byte) error {
			s.painter.draw(planes, mark)
			return nil
		})
		if err != nil {
			f.Release()
			return nil, err
		}
		return f, nil
	}
}

// Close ends the Source. Outstanding Frames stay valid: their memory is the garbage collector's.
func (s *Source) Close() error {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.painter = nil
	return nil
}

// A grid gives the n-th instant of a steady rate, without drift. Whole seconds of UTC lie on it if the rate is whole.
type grid struct {
	t0   time.Duration
	rate media.Rational
}

func newGrid(rate media.Rational) grid {
	now := clock.Now()
	return grid{t0: now - time.Duration(clock.Wall(now).Nanosecond()), rate: rate}
}

func (g grid) at(n int64) time.Duration {
	num, den := int64(g.rate.Num), int64(g.rate.Den)
	q, r := n/num, n%num // whole turns first: n·den·10⁹ would overflow within hours
	return g.t0 + time.Duration(q*den)*time.Second + time.Duration(r*den*int64(time.Second)/num)
}

// after returns the number of the first instant later than t.
func (g grid) after(t time.Duration) int64 {
	n := int64((t - g.t0).Seconds() * g.rate.Float())
	for n > 0 && g.at(n) > t {
		n--
	}
	for g.at(n) <= t {
		n++
	}
	return n
}
