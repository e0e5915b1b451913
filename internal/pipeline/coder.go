package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/media"
	"gantry/media/sei"
)

const (
	encoderStuck = 3 * time.Second // a picture went in and nothing came out
	drainLimit   = 2 * time.Second // for what an encoder still holds when it is closed
	hangGrace    = time.Second     // what a call may take to return once it should
	openLimit    = 5 * time.Second // what opening an encoder may take
	mostLeft     = 2               // encoders that a stage leaves behind because a call of theirs does not return
)

var encoderHung = health.Warnable{Code: "encoder-hung", Severity: health.Degraded}

var (
	errEncoderStuck = errors.New("the encoder took pictures and made nothing of them for 3 s")
	errEncoderHung  = errors.New("the encoder does not return from a call")
)

// A coder is one open encoder, the goroutine that calls it and the one that reads it.
type coder struct {
	stage *encode
	enc   encoder.Encoder
	name  string
	rank  int
	in    media.VideoFormat
	want  Encoder
	began time.Duration

	fail    context.CancelCauseFunc // ends the stage's run
	stop    context.CancelFunc      // ends reading
	stuck   *time.Timer
	done    chan struct{} // closed when reading has ended
	calls   calls
	pending inside
}

// calls are those of an encoder's methods that may hang in a library or driver, where no context reaches them: another goroutine
// makes them, which is left behind then.
type calls struct {
	jobs   chan job
	result chan error
	idle   chan struct{} // closed when the goroutine has ended
	left   atomic.Bool   // behind
}

// A job is to code a picture; without one, to close.
type job struct {
	frame *media.Frame
	key   bool
}

// inside holds when the pictures went in that did not come out.
type inside struct {
	sync.Mutex
	at []time.Duration
}

func (e *encode) start(enc encoder.Encoder, name string, rank int, in media.VideoFormat, want Encoder, fail context.CancelCauseFunc) *coder {
	c := &coder{stage: e, enc: enc, name: name, rank: rank, in: in, want: want, began: clock.Now(), fail: fail, done: make(chan struct{}),
		calls: calls{jobs: make(chan job), result: make(chan error, 1), idle: make(chan struct{})}}
	ctx, stop := context.WithCancel(context.Background()) // reading goes on while Close drains
	c.stop = stop
	c.stuck = time.AfterFunc(time.Hour, func() {
		fail(errEncoderStuck)
		stop()
	})
	c.stuck.Stop()
	go e.read(ctx, c)
	return c
}

// work makes the calls.
func (c *coder) work(ctx context.Context) {
	defer close(c.calls.idle)
	for j := range c.calls.jobs {
		if j.frame == nil {
			c.calls.result <- c.enc.Close()
			continue
		}
		err := c.enc.Encode(ctx, j.frame, j.key)
		j.frame.Release()
		c.calls.result <- err
	}
	if c.calls.left.Load() {
		_ = c.enc.Close() // why it was given up has been told
		c.stage.returned()
	}
}

// do has a call made and waits for it, but not much longer than ctx.
func (c *coder) do(ctx context.Context, j job) error {
	c.calls.jobs <- j
	select {
	case err := <-c.calls.result:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(hangGrace)
	defer grace.Stop()
	select {
	case err := <-c.calls.result:
		return err
	case <-grace.C:
	}
	if !c.stage.leave(c.name) {
		return <-c.calls.result // the stage stands still, which the service manager's watchdog sees
	}
	c.calls.left.Store(true)
	close(c.calls.jobs)
	return fmt.Errorf("%s: %w", c.name, errEncoderHung)
}

// openOne opens an encoder, or gives it up when that takes too long.
func (e *encode) openOne(ctx context.Context, b encoder.Backend, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
	type outcome struct {
		enc encoder.Encoder
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	opened := make(chan outcome, 1)
	go func() { // waited for here, or left behind
		enc, err := b.Open(ctx, in, p)
		opened <- outcome{enc, err}
	}()
	select {
	case o := <-opened:
		return o.enc, o.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(hangGrace)
	defer grace.Stop()
	select {
	case o := <-opened:
		return o.enc, o.err
	case <-grace.C:
	}
	if !e.leave(b.Name) {
		o := <-opened
		return o.enc, o.err
	}
	go func() {
		if o := <-opened; o.enc != nil {
			_ = o.enc.Close() // nobody has used it
		}
		e.returned()
	}()
	return nil, fmt.Errorf("open %s: %w", b.Name, errEncoderHung)
}

// leave tells whether one more encoder may be left behind: each keeps its memory, and a picture of the source.
func (e *encode) leave(name string) bool {
	e.mu.Lock()
	ok := e.now.left < mostLeft
	if ok {
		e.now.left++
	}
	e.mu.Unlock()
	if ok {
		e.health.Raise(encoderHung, e.rid, name+" does not return from a call: another is used, and its memory is kept until the daemon restarts")
	}
	return ok
}

// returned notes that one has come back after all.
func (e *encode) returned() {
	e.mu.Lock()
	e.now.left--
	none := e.now.left == 0
	e.mu.Unlock()
	if none {
		e.health.Clear(encoderHung, e.rid)
	}
}

// read brings packets to the queues until the encoder ends.
func (e *encode) read(ctx context.Context, c *coder) {
	defer close(c.done)
	codec := c.enc.Track().Codec
	stamper := sei.NewStamper(codec, c.in.Rate)
	for {
		p, err := c.enc.Read(ctx)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				c.fail(fmt.Errorf("read from %s: %w", c.name, err))
			}
			return
		}
		if took, ok := c.came(); ok {
			e.took.add(clock.Now(), int(took.Microseconds()))
		}
		e.out.add(clock.Now(), len(p.Data))
		if p.Key {
			e.note(func(st *encodeState) { st.keys++ })
			e.split.keyed(e.rid, p.PTS)
		}
		want, _ := e.setting.get()
		if data := stamper.Stamp(p.Data, p.Key, want.Timecode, clock.Wall(p.PTS).Local()); len(data) != len(p.Data) {
			stamped := *p
			stamped.Data = data
			p = &stamped
		}
		if e.emit != nil {
			e.emit(p, codec)
			continue
		}
		e.fanout.pushPicture(p, codec, e.rid)
	}
}

func (c *coder) encode(ctx context.Context, f *media.Frame, key bool) error {
	c.pending.Lock()
	if len(c.pending.at) == 0 {
		c.stuck.Reset(encoderStuck)
	}
	c.pending.at = append(c.pending.at, clock.Now())
	c.pending.Unlock()
	return c.do(ctx, job{f.Retain(), key})
}

// came notes that a packet came out, and returns how long its picture was inside.
func (c *coder) came() (took time.Duration, ok bool) {
	c.pending.Lock()
	defer c.pending.Unlock()
	if ok = len(c.pending.at) > 0; ok {
		took = clock.Now() - c.pending.at[0]
		c.pending.at = c.pending.at[1:]
	}
	if len(c.pending.at) == 0 {
		c.stuck.Stop()
	} else {
		c.stuck.Reset(encoderStuck)
	}
	return took, ok
}

// close drains the encoder into the queues and frees it. One that was left behind closes itself, if ever.
func (c *coder) close() error {
	c.stuck.Stop()
	var err error
	if !c.calls.left.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		if err = c.do(ctx, job{}); !c.calls.left.Load() {
			close(c.calls.jobs)
			<-c.calls.idle
			select {
			case <-c.done:
			case <-ctx.Done():
			}
		}
	}
	c.stop()
	<-c.done
	inPlace, copied := c.copies()
	c.stage.note(func(st *encodeState) { st.inPlace, st.copied = st.inPlace+inPlace, st.copied+copied })
	return err
}

// copies tells how many pictures were read where they lay and how many were copied or converted first, as far as the encoder knows.
func (c *coder) copies() (inPlace, copied uint64) {
	if counter, ok := c.enc.(encoder.CopyCounter); ok {
		return counter.Copies()
	}
	return 0, 0
}
