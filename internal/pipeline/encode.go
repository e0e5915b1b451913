package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/supervise"
	"gantry/media"
)

const (
	soonFailed    = 10 * time.Second // a back end that fails within this gives way to the next
	reopenSpacing = 2 * time.Second  // least time between encoders where a bitrate needs a new one
)

var encoderBackoff = supervise.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.1, Healthy: soonFailed}

var (
	encoderDown = health.Warnable{Code: "encoder-down", Severity: health.Failing, Visible: time.Second}
	encoderSlow = health.Warnable{Code: "encoder-slow", Severity: health.Degraded, Visible: 3 * time.Second}
)

// encode is the stage between the slot and the destinations' queues.
type encode struct {
	log     *slog.Logger
	health  *health.Set
	setting *setting[Encoder]
	rid     string // of the rendition, empty for the main encode
	slot    *slot
	split   *splitter
	fanout  *fanout
	tracks  *tracks
	emit    func(*media.Packet, media.Codec) // what is made; nil: to the destinations

	rank     int // of the back end to try first
	governor governor
	pace     pace

	mu   sync.Mutex
	now  encodeState
	out  meter
	took meter // microseconds from picture to packet, for bytes
}

// An encodeState is what others may know about the stage.
type encodeState struct {
	current  *coder
	err      error  // why there is none
	target   int    // bit/s
	keys     uint64 // key frames made
	opened   uint64 // encoders so far
	progress uint64 // pictures that were given to an encoder, and failures to: the stage is not stuck
	left     int    // encoders that hang, and are left behind
	// Pictures that encoders before the current one read where they lay, and that were copied or converted for them.
	inPlace, copied uint64
}

func (e *encode) run(ctx context.Context) error {
	task := supervise.Task{Name: "encoder", Log: e.log, Backoff: encoderBackoff}
	return task.Keep(ctx, func(ctx context.Context) error {
		err := e.once(ctx)
		if ctx.Err() == nil {
			e.note(func(st *encodeState) { st.err = err; st.progress++ })
			e.health.Raise(encoderDown, e.rid, err.Error())
		}
		return err
	})
}

func (e *encode) note(fn func(*encodeState)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fn(&e.now)
}

// once codes pictures, with one encoder after the other, until one fails.
func (e *encode) once(ctx context.Context) (err error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var c *coder
	defer func() {
		if c == nil {
			return
		}
		e.note(func(st *encodeState) { st.current = nil })
		if err != nil && ctx.Err() == nil && (clock.Now()-c.began < soonFailed || c.calls.left.Load()) {
			e.rank = c.rank + 1 // the next one may do better
		}
		err = errors.Join(err, c.close())
	}()
	for {
		f, key, err := e.slot.take(inner)
		if err != nil {
			return err
		}
		c, err = e.code(inner, cancel, c, f, key)
		f.Release()
		if err != nil {
			if cause := context.Cause(inner); cause != nil {
				err = cause
			}
			return err
		}
	}
}

// code gives one picture to the encoder that it needs: c, or a new one.
func (e *encode) code(ctx context.Context, fail context.CancelCauseFunc, c *coder, f *media.Frame, key bool) (*coder, error) {
	want, _ := e.setting.get()
	e.governor = e.governor.next(limits{want.Floor, want.Params.Bitrate}, e.split.feedback.smallest(e.rid), f.PTS)
	want.Params.Bitrate = e.governor.told
	e.note(func(st *encodeState) { st.target = e.governor.told; st.progress++ })

	e.keepsUp(f.PTS)
	c, err := e.ready(ctx, fail, c, f.Format, want)
	if err != nil {
		return c, err
	}
	return c, c.encode(ctx, f, key)
}

// A pace is how many pictures were taken and how many passed by since a moment.
type pace struct {
	since  time.Duration
	taken  uint64
	passed uint64 // the slot's count at that moment
}

// keepsUp raises a condition while more than a tenth of the pictures is replaced by newer ones before the encoder takes them.
func (e *encode) keepsUp(pts time.Duration) {
	const window = 2 * time.Second
	e.pace.taken++
	if pts-e.pace.since < window && pts >= e.pace.since {
		return
	}
	passed := e.slot.dropped()
	if missed := passed - e.pace.passed; missed*10 > missed+e.pace.taken {
		e.health.Raise(encoderSlow, e.rid, fmt.Sprintf("it takes %d of %d pictures: a smaller size, a lower rate or a faster preset would do",
			e.pace.taken, missed+e.pace.taken))
	} else {
		e.health.Clear(encoderSlow, e.rid)
	}
	e.pace = pace{since: pts, passed: passed}
}

// ready returns an encoder for pictures of this format that does what want says.
func (e *encode) ready(ctx context.Context, fail context.CancelCauseFunc, c *coder, in media.VideoFormat, want Encoder) (*coder, error) {
	if c != nil && (c.in != in || c.want.Key != want.Key) {
		e.log.Info("new encoder", "reason", "format or settings changed", "format", in)
		if c.want.Key != want.Key {
			e.rank = 0
		}
		err := c.close() // first: hardware may have room for one only
		if c = nil; err != nil {
			return nil, err
		}
	}
	if c == nil {
		return e.open(ctx, fail, in, want)
	}
	if c.want.Params == want.Params {
		return c, nil
	}
	err := c.enc.Apply(want.Params)
	if err == nil {
		c.want.Params = want.Params
		return c, nil
	}
	if !errors.Is(err, encoder.ErrRestart) {
		return c, err
	}
	if c.want.Params.Live(want.Params) && clock.Now()-c.began < reopenSpacing {
		return c, nil // only another bitrate: a key frame each time costs more than it saves
	}
	next, err := e.open(ctx, fail, in, want)
	if err != nil { // perhaps there is room for one only
		e.log.Info("new encoder", "reason", "none beside the old one", "err", err)
		if err := c.close(); err != nil {
			return nil, err
		}
		return e.open(ctx, fail, in, want)
	}
	return next, c.close() // which sends what the old one still holds; the new one has no picture yet
}

// open tries the back ends, beginning with the one whose turn it is.
func (e *encode) open(ctx context.Context, fail context.CancelCauseFunc, in media.VideoFormat, want Encoder) (*coder, error) {
	if len(want.Backends) == 0 {
		return nil, fmt.Errorf("no encoder for %v: %w", want.Params.Codec, encoder.ErrUnavailable)
	}
	var errs []error
	for i := range want.Backends {
		rank := (e.rank + i) % len(want.Backends)
		b := want.Backends[rank]
		if !slices.Contains(b.Inputs, in.FourCC) {
			errs = append(errs, fmt.Errorf("%s takes no %v", b.Name, in.FourCC))
			continue
		}
		enc, err := e.openOne(ctx, b, in, want.Params)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e.rank = rank
		c := e.start(enc, b.Name, rank, in, want, fail)
		go c.work(ctx) // until c.close, or for ever where a call of the encoder's hangs
		e.log.Info("encoder opened", "encoder", b.Name, "codec", enc.Track().Codec, "format", in, "bitrate", want.Params.Bitrate)
		e.tracks.setVideo(e.rid, enc.Track())
		e.split.opened()
		e.health.Clear(encoderDown, e.rid)
		e.note(func(st *encodeState) { st.current, st.err = c, nil; st.opened++ })
		return c, nil
	}
	return nil, errors.Join(errs...)
}
