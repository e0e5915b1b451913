package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/supervise"
	"gantry/media"
)

const (
	slateAfter  = 250 * time.Millisecond // without a picture, or three intervals if that is longer
	slateAtBoot = time.Second            // what a source has to deliver its first picture before the slate goes out
	restart     = 100 * time.Millisecond // between starts of a source without a signal
	sourceStuck = 10 * time.Second       // without a picture or an error: the source is opened anew
)

// Opening a device that is not there costs next to nothing, and one that returns shall be on the air within a second.
var sourceBackoff = supervise.Backoff{Min: 250 * time.Millisecond, Max: 500 * time.Millisecond, Jitter: 0.1, Healthy: 5 * time.Second}

var (
	noSignal   = health.Warnable{Code: "no-signal", Severity: health.Failing, Visible: 2 * time.Second}
	sourceDown = health.Warnable{Code: "source-down", Severity: health.Failing, Visible: 2 * time.Second}
)

var (
	errWaiting = fmt.Errorf("waiting for pictures: %w", device.ErrNoSignal)
	errStuck   = errors.New("the source delivered no picture for 10 s")
	errNothing = errors.New("the source stopped before its first picture")
)

// capture brings pictures from the source, or the slate, to the slot.
type capture struct {
	log     *slog.Logger
	health  *health.Set
	setting *setting[Video]
	split   *splitter
	slate   Slate
	pass    *passing // for a source that comes coded
	tracks  *tracks

	mu     sync.Mutex
	source Video
	format media.VideoFormat // of the last picture, or the configured one
	last   time.Duration     // when the last picture of the source came
	shown  shown
	reason error         // why there is no picture
	wake   chan struct{} // runSlate looks again
	frames meter
	count  struct{ late, slate, lost uint64 }
}

// shown is what went to the slot.
type shown struct {
	pts   time.Duration // of the last picture
	drawn time.Duration // PTS of the last picture that was decoded, or stood in for a coded one
	seq   uint32        // of the last slate
	slate bool          // the last picture was the slate
	cut   bool          // the next one is the first of another scene
}

func (c *capture) run(ctx context.Context) error {
	c.setting.follow(ctx, c.work)
	return nil
}

// work keeps one source alive, with the slate beside it.
func (c *capture) work(ctx context.Context, v Video) {
	c.mu.Lock()
	first := c.format == media.VideoFormat{}
	if first {
		c.format = v.Format
	}
	c.source, c.reason = v, errWaiting
	c.last = clock.Now()
	if first {
		c.last += slateAtBoot - slateAfter
		if v.Coded != nil { // which has a connection to make and a key frame to wait for
			c.last += codedAtBoot
		}
	}
	c.mu.Unlock()
	if v.Coded != nil {
		c.tracks.expectPass(v.Coded.PassThrough)
	} else {
		c.pass.stop()
	}

	var slate sync.WaitGroup
	defer slate.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slate.Go(func() { c.runSlate(ctx) })
	task := supervise.Task{Name: "source", Log: c.log.With("device", v.Name), Backoff: sourceBackoff, Wake: v.Wake}
	_ = task.Keep(ctx, func(ctx context.Context) error {
		once := c.once
		if v.Coded != nil {
			once = c.onceCoded
		}
		err := once(ctx, v)
		if ctx.Err() == nil {
			c.trouble(err)
		}
		return err
	})
	c.health.Clear(noSignal, v.Name)
	c.health.Clear(sourceDown, v.Name)
	c.health.Clear(sourceSlow, v.Name)
	c.health.Clear(sourceWarns, v.Name)
}

// once opens the source and delivers its pictures until it fails.
func (c *capture) once(ctx context.Context, v Video) (err error) {
	src, err := v.Open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		c.split.clear() // Close waits for outstanding pictures
		err = errors.Join(err, src.Close())
	}()
	for {
		var format media.VideoFormat
		err := c.start(ctx, v, func(ctx context.Context) (err error) {
			format, err = src.Start(ctx)
			return err
		})
		if err != nil {
			return err
		}
		c.log.Info("source started", "device", v.Name, "format", format)
		c.heed(src, v.Name)
		n, err := c.stream(ctx, src, v.Name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, device.ErrNoSignal) && !errors.Is(err, device.ErrFormatChanged) {
			return err
		}
		if n == 0 { // do not spin on a source that starts and stops
			return fmt.Errorf("%w: %w", errNothing, err)
		}
		c.log.Info("source stopped", "device", v.Name, "reason", err)
		c.trouble(err)
	}
}

// start starts the source, and shows why while there is no signal.
func (c *capture) start(ctx context.Context, v Video, begin func(context.Context) error) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		err := begin(ctx)
		if err == nil || ctx.Err() != nil || !errors.Is(err, device.ErrNoSignal) {
			return err
		}
		c.log.Info("waiting for a signal", "device", v.Name, "reason", err)
		c.trouble(err)
		pause.Reset(restart)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// stream delivers pictures until an error and returns how many.
func (c *capture) stream(ctx context.Context, src device.Source, name string) (n int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(sourceStuck, func() { cancel(errStuck) })
	defer watchdog.Stop()
	seq := uint32(0)
	var rate tempo
	for {
		f, err := src.Read(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return n, err
		}
		watchdog.Reset(sourceStuck)
		lost := uint32(0)
		if n > 0 && f.Seq-seq < 1<<31 { // a sequence that goes back starts anew
			lost = max(f.Seq-seq, 1) - 1
		}
		seq = f.Seq
		n++
		c.pace(&rate, f.PTS, lost, f.Format.Rate, name)
		c.deliver(f, lost)
	}
}

// deliver hands a live picture on.
func (c *capture) deliver(f *media.Frame, lost uint32) {
	cut := false
	c.mu.Lock()
	c.arrived()
	c.format = f.Format
	c.count.lost += uint64(lost)
	late := f.PTS <= c.shown.pts && c.shown.pts != 0
	if late { // the slate was quicker, or the driver's clock went back
		c.count.late++
	} else {
		c.shown.pts = f.PTS
		cut, c.shown.cut = c.shown.cut, false
	}
	c.mu.Unlock()
	if late {
		f.Release()
		return
	}
	c.split.put(f, cut)
}

// arrived notes that something came from the source, which ends the slate and its reason. It is called with c.mu held.
func (c *capture) arrived() {
	c.last = clock.Now()
	if c.shown.slate || c.reason != nil {
		c.shown.cut = c.shown.pts != 0
		c.shown.slate, c.reason = false, nil
		c.health.Clear(noSignal, c.source.Name)
		c.health.Clear(sourceDown, c.source.Name)
	}
	c.frames.add(c.last, 0)
}

// trouble notes why there is no picture.
func (c *capture) trouble(err error) {
	c.mu.Lock()
	c.reason = err
	if definite(err) && (c.source.Coded == nil || c.shown.pts != 0) {
		c.last = min(c.last, clock.Now()) // at boot there is nothing to wait for
	}
	name := c.source.Name
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	if errors.Is(err, device.ErrNoSignal) || errors.Is(err, device.ErrFormatChanged) {
		c.health.Raise(noSignal, name, err.Error())
	} else {
		c.health.Raise(sourceDown, name, err.Error())
	}
}

// runSlate puts the slate into the slot, at the picture rate, for as long as the source delivers nothing.
func (c *capture) runSlate(ctx context.Context) {
	var still Still
	var drawn media.VideoFormat
	var text string
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		format, wait, reason := c.quiet()
		if wait == 0 {
			if t := reason.Error(); format != drawn || t != text {
				var err error
				if still, err = c.slate(format, title(reason), t); err != nil {
					c.log.Warn("no slate", "format", format, "err", err) // destinations see a pause instead
					still = nil
				}
				drawn, text = format, t
			}
			if wait = slateAfter; still != nil {
				wait = c.putSlate(still, format)
			}
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// title says in two words what the reason says in more.
func title(reason error) string {
	switch {
	case errors.Is(reason, device.ErrEncrypted):
		return "Protected content"
	case errors.Is(reason, device.ErrOutOfRange):
		return "Unsupported signal"
	case errors.Is(reason, device.ErrNoLock):
		return "Unstable signal"
	case errors.Is(reason, device.ErrFormatChanged):
		return "Signal changed"
	case errors.Is(reason, device.ErrNoSignal):
		return "No signal"
	case errors.Is(reason, device.ErrGone):
		return "Input lost"
	case errors.Is(reason, device.ErrBusy):
		return "Input busy"
	case errors.Is(reason, device.ErrUnsupported):
		return "Not supported"
	}
	return "No input"
}

// definite tells whether it is known that no picture comes. After a change of format the next one is a moment away.
func definite(reason error) bool {
	return reason != nil && !errors.Is(reason, errWaiting) && !errors.Is(reason, device.ErrFormatChanged)
}

// quiet returns how long to wait before the slate is due, 0 for now, with what it shows.
func (c *capture) quiet() (media.VideoFormat, time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	interval := c.format.Rate.Interval()
	due := c.last + max(slateAfter, 3*interval)
	if c.source.Coded != nil {
		due = c.last + max(slateAfterCoded, 3*interval)
	}
	if definite(c.reason) {
		due = c.last + interval
	}
	if wait := due - clock.Now(); wait > 0 {
		return c.format, wait, nil
	}
	if c.reason == nil {
		c.reason = errWaiting
		c.health.Raise(noSignal, c.source.Name, errWaiting.Error())
	}
	return c.format, 0, c.reason
}

func (c *capture) putSlate(still Still, format media.VideoFormat) time.Duration {
	interval := format.Rate.Interval()
	if interval <= 0 {
		interval = time.Second / 30
	}
	now := clock.Now()
	c.mu.Lock()
	if c.reason == nil || now <= c.shown.pts && c.shown.pts != 0 { // a picture came meanwhile, or is still to be shown
		c.mu.Unlock()
		return interval
	}
	// On the grid of the pictures before, so that the rate is right whatever timers do.
	pts := now
	if next := c.shown.pts + interval; c.shown.slate && now-next < interval && now >= next {
		pts = next
	}
	cut := !c.shown.slate && c.shown.pts != 0
	c.shown.pts, c.shown.slate = pts, true
	c.count.slate++
	c.shown.seq++
	f := still.Frame(pts, c.shown.seq)
	put := func() { c.split.put(f, cut) }
	if c.source.Coded != nil {
		put = c.stand(f, cut)
	}
	c.mu.Unlock()
	put()
	return max(pts+interval-now, time.Millisecond)
}
