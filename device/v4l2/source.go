package v4l2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gantry/device"
	"gantry/internal/usb"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// loanPatience is how long Close waits for Frames in use.
const loanPatience = 1500 * time.Millisecond

var errLent = errors.New("pictures are still in use, and their memory is kept until they come back")

// A Source captures from one node. It is a device.Source; Status may be called from any goroutine.
type Source struct {
	cfg    Config
	log    *slog.Logger
	dev    *kernel.Device
	waiter *kernel.Waiter
	bridge *bridge // nil: the node drives its hardware itself
	queue  uapi.BufType
	input  int    // -1 where the device has none to choose
	told   string // the reason for no signal that was returned last
	run    *run
	past   []*kernel.Queue // of earlier runs, until their last Frame is released
	status atomic.Pointer[Status]
	bad    atomic.Uint64
}

// Status is what a Source knows about its input.
type Status struct {
	Streaming bool
	Reason    string            // why there is no signal; empty when there is, or nothing is known
	Format    media.VideoFormat // of the current run, or of the last one
	Bad       uint64            // pictures that the driver marked as damaged, or that came short: they are not delivered
}

// Open opens cfg.Device. Its errors wrap device.ErrNotFound, ErrBusy and ErrUnsupported, and say what to do.
func Open(cfg Config, log *slog.Logger) (*Source, error) {
	if cfg.Coded() {
		return nil, fmt.Errorf("%s: %w: H264 comes coded, and is for OpenPackets", cfg.Device, device.ErrUnsupported)
	}
	return openSource(cfg, log)
}

func openSource(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	wanted, _ := layoutOf(cfg.Format)
	path, err := find(cfg.Device, wanted.code)
	if err != nil {
		return nil, err
	}
	dev, err := kernel.Open(path)
	if err != nil {
		return nil, explainOpen(path, err)
	}
	s := &Source{cfg: cfg, log: log.With("device", cfg.Device), dev: dev, queue: dev.CaptureType(), input: -1}
	s.status.Store(&Status{})
	if s.queue == 0 || dev.Mem2Mem() || dev.Caps()&uapi.CapStreaming == 0 {
		dev.Close()
		return nil, fmt.Errorf("%s (%s) does not capture: %w; gantryd probe lists the nodes that do", cfg.Device, dev.Card(), device.ErrUnsupported)
	}
	if s.waiter, err = dev.NewWaiter(); err == nil {
		s.bridge, err = openBridge(dev)
	}
	if err != nil {
		if s.waiter != nil {
			s.waiter.Close()
		}
		dev.Close()
		return nil, err
	}
	return s, nil
}

// Status returns what is known about the input.
func (s *Source) Status() Status {
	st := *s.status.Load()
	st.Bad = s.bad.Load()
	return st
}

// Warning implements device.Warner: a USB device may sit in a port that is too slow for it.
func (s *Source) Warning() string {
	path := s.dev.Path()
	if real, err := filepath.EvalSymlinks(path); err == nil { // a link of /dev/v4l
		path = real
	}
	d, _ := usb.Of(os.DirFS("/"), "video4linux", filepath.Base(path))
	return d.SlowLink()
}

// Start selects the input, waits for a signal that is stable, takes over its timings, sets the format and streams. Without a
// signal it returns ErrNoSignal when the reason is not the one that it or Read returned last, and else goes on waiting. When
// ctx ends meanwhile, its error wraps device.ErrNoSignal too.
func (s *Source) Start(ctx context.Context) (media.VideoFormat, error) {
	format, err := s.start(ctx)
	if err != nil {
		s.stop(ctx)
		return media.VideoFormat{}, explain(s.dev, err)
	}
	s.told = ""
	s.status.Store(&Status{Streaming: true, Format: format})
	return format, nil
}

func (s *Source) start(ctx context.Context) (media.VideoFormat, error) {
	if err := s.stop(ctx); err != nil {
		return media.VideoFormat{}, err
	}
	if err := s.selectInput(); err != nil {
		return media.VideoFormat{}, err
	}
	sig, err := s.awaitSignal(ctx)
	if err != nil {
		return media.VideoFormat{}, err
	}
	if sig.digital {
		if set, err := s.receiver().Timings(); err != nil || !kernel.SameTimings(set, sig.timings) {
			if err := s.receiver().SetTimings(sig.timings); err != nil {
				return media.VideoFormat{}, fmt.Errorf("set timings %s: %w", kernel.DescribeTimings(sig.timings), err)
			}
		}
	}
	if sig.standard != 0 {
		if set, err := s.dev.Standard(); err == nil && set != sig.standard {
			if err := s.dev.SetStandard(sig.standard); err != nil {
				return media.VideoFormat{}, fmt.Errorf("set standard %#x: %w", uint64(sig.standard), err)
			}
		}
	}
	l, format, err := s.setFormat(sig)
	if err != nil {
		return media.VideoFormat{}, err
	}
	rate, err := s.setRate(sig, l, format)
	if err != nil {
		return media.VideoFormat{}, err
	}
	shown := videoFormat(l, format, rate, sig.standard)
	if sig.digital || s.cfg.Width != 0 { // else the next start could not tell the size
		if format, err = s.pad(l, format); err != nil {
			return media.VideoFormat{}, err
		}
	}
	where, err := places(l, format)
	if err != nil {
		return media.VideoFormat{}, fmt.Errorf("%w: %w", device.ErrUnsupported, err)
	}
	queue, err := s.dev.NewQueue(s.queue, uapi.MemoryMMAP, s.cfg.Buffers)
	if err != nil {
		return media.VideoFormat{}, err
	}
	s.run = newRun(queue, l, shown, where)
	s.run.signal = sig
	if format.Field == uapi.FieldAlternate {
		s.run.weaver = newWeaver(shown, s.cfg.Buffers)
	}
	if err := queue.EnqueueAll(); err != nil {
		return media.VideoFormat{}, err
	}
	if err := queue.StreamOn(); err != nil {
		return media.VideoFormat{}, err
	}
	return s.run.format, nil
}

const (
	// patience is how long a running device may deliver nothing before it is asked for its signal.
	patience = 2 * time.Second
	// lookAgain is how often a running device is asked for its signal without being told to: not every driver has events, or
	// has them for everything.
	lookAgain = 500 * time.Millisecond
)

// Read waits for the next picture. Pictures that the driver marks as damaged are skipped and counted.
func (s *Source) Read(ctx context.Context) (*media.Frame, error) {
	if s.run == nil {
		return nil, fmt.Errorf("%s: read before start", s.dev.Path())
	}
	if s.run.over != nil {
		return nil, s.run.over
	}
	f, err := s.read(ctx)
	if err != nil && context.Cause(ctx) == nil {
		err = explain(s.dev, err)
		s.run.over = err
		st := &Status{Format: s.run.format}
		if errors.Is(err, device.ErrNoSignal) {
			st.Reason = err.Error()
			s.told = st.Reason
		}
		s.status.Store(st)
	}
	return f, err
}

func (s *Source) read(ctx context.Context) (*media.Frame, error) {
	for {
		ready, err := s.waiter.Wait(ctx, kernel.Readable|kernel.Urgent, patience)
		if err != nil {
			return nil, err
		}
		// The event before the picture: what was captured without a signal is not worth showing.
		if ready&kernel.Urgent != 0 {
			if err := s.followEvents(); err != nil {
				return nil, err
			}
		}
		if ready == 0 {
			if err := s.stalled(); err != nil {
				return nil, err
			}
			continue
		}
		f, err := s.run.next()
		if f != nil && s.run.weaver != nil {
			if f = s.run.weaver.add(f, s.run.done.Field); f == nil {
				continue
			}
		}
		switch {
		case errors.Is(err, unix.EAGAIN) && ready&kernel.Failed != 0:
			return nil, unix.EIO // poll complains, and there is nothing to take: it would complain for ever
		case errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.EPIPE): // the driver ended the stream: it saw another signal
			return nil, device.ErrFormatChanged
		case err != nil:
			return nil, err
		case f == nil:
			s.bad.Add(1)
		default:
			if err := s.lookNowAndThen(f.PTS); err != nil {
				f.Release()
				return nil, err
			}
			return f, nil
		}
	}
}

// lookNowAndThen looks at the signal of a digital input every lookAgain. A driver that cannot tell while it streams is believed
// to have one.
func (s *Source) lookNowAndThen(now time.Duration) error {
	if !s.run.signal.digital || (now-s.run.looked).Abs() < lookAgain {
		return nil
	}
	s.run.looked = now
	if err := s.compare(); errors.Is(err, device.ErrNoSignal) || errors.Is(err, device.ErrFormatChanged) {
		return err
	}
	return nil
}

// followEvents takes all events, and after a change of the source looks at it.
func (s *Source) followEvents() error {
	changed, err := s.drainEvents()
	if err != nil || !changed {
		return err
	}
	return s.compare()
}

// compare looks at the signal and returns an error when it is not the one of the run.
func (s *Source) compare() error {
	sig, err := s.look()
	if err != nil {
		return err
	}
	if !sig.same(s.run.signal) {
		return fmt.Errorf("%s: %w: %v, was %v", s.dev.Path(), device.ErrFormatChanged, sig, s.run.signal)
	}
	return nil
}

// drainEvents takes all events and reports whether the source changed.
func (s *Source) drainEvents() (changed bool, err error) {
	for {
		e, ok, err := s.dev.NextEvent()
		if err != nil || !ok {
			return changed, err
		}
		changed = changed || e.Type == uapi.EventSourceChange
	}
}

// stalled finds out why no picture came.
func (s *Source) stalled() error {
	if err := s.run.queue.Err(); err != nil {
		return err
	}
	if s.run.queue.Lent() == s.run.queue.Len() {
		return nil // all are in use downstream: the device has nowhere to write
	}
	if _, err := s.look(); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w: no picture in %v", s.dev.Path(), device.ErrNoSignal, patience)
}

// stop ends the run. Frames that are still in use stay valid.
func (s *Source) stop(ctx context.Context) error {
	if s.run == nil {
		return nil
	}
	queue := s.run.queue
	s.run.weaver.end()
	s.run = nil
	s.past = append(s.past, queue)
	if err := queue.Close(ctx); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// Close stops streaming, waits for outstanding Frames and frees the device. A Frame that does not come back soon, as one in an
// encoder that hangs, stays valid: its memory is unmapped when it is released, if ever, and the device can be opened again
// (drivers before Linux 4.20: not before). That is an error.
func (s *Source) Close() error {
	if s.dev == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), loanPatience, errLent)
	defer cancel()
	err := s.stop(ctx)
	for _, q := range s.past {
		select {
		case <-q.Idle():
		case <-ctx.Done():
			if n := q.Lent(); n > 0 {
				err = errors.Join(err, fmt.Errorf("%s: %w (%d)", s.dev.Path(), errLent, n))
			}
		}
	}
	s.past = nil
	st := *s.status.Load()
	st.Streaming = false
	s.status.Store(&st)
	err = errors.Join(err, s.waiter.Close(), s.bridge.close(), s.dev.Close())
	s.dev = nil
	return err
}
