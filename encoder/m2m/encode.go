package m2m

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gantry/encoder"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// stuckAfter is how long a picture may stay inside before the encoder counts as hung.
const stuckAfter = 2 * time.Second

// An Encoder is one hardware encoder. It is an encoder.Encoder.
type Encoder struct {
	dev           *kernel.Device
	ctl           controls
	k             coding
	code          media.FourCC // of the pictures, as the kernel names them
	in            media.VideoFormat
	width, height int
	track         media.Track
	complete      func(au []byte, key bool) []byte
	out           *encoder.Output
	stuck         time.Duration
	work          encoding

	imported, copied atomic.Uint64
}

// encoding is the state that Encode, Apply and Close change.
type encoding struct {
	mu     sync.Mutex
	params encoder.Params
	run    *run
	copies bool // importing was tried, and the driver refused
	closed bool
}

// newEncoder sets a device up and takes it over.
func newEncoder(dev *kernel.Device, ctl controls, k coding, code media.FourCC, in media.VideoFormat, p encoder.Params) (*Encoder, error) {
	e := &Encoder{dev: dev, ctl: ctl, k: k, code: code, in: in, width: p.Width, height: p.Height, stuck: stuckAfter, out: encoder.NewOutput(8)}
	e.work.params = p
	if k.complete != nil {
		e.complete = k.complete()
	}
	if _, err := e.setFormats(nil); err != nil {
		return nil, err
	}
	profile, err := setUp(ctl, k, in, p)
	if err != nil {
		return nil, err
	}
	e.track = media.Track{Codec: k.codec, ClockRate: 90000, Width: p.Width, Height: p.Height, Profile: profile, Bitrate: p.Bitrate}
	if e.work.run, err = e.newRun(uapi.MemoryMMAP, nil); err != nil {
		return nil, err
	}
	return e, nil
}

// Track implements encoder.Encoder.
func (e *Encoder) Track() media.Track { return e.track }

// Copies implements encoder.CopyCounter.
func (e *Encoder) Copies() (inPlace, copied uint64) { return e.imported.Load(), e.copied.Load() }

// Encode implements encoder.Encoder. Pictures in DMABUFs are imported where the driver can. Where pictures of both kinds
// alternate, as a camera's and a slate's do, the device starts anew at each change, which makes a key frame.
func (e *Encoder) Encode(ctx context.Context, f *media.Frame, key bool) error {
	if f.Format != e.in {
		return fmt.Errorf("opened for %v, got %v", e.in, f.Format)
	}
	if err := e.out.Wait(ctx); err != nil {
		return err
	}
	w := &e.work
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return encoder.ErrClosed
	}
	fresh, err := e.prepare(f)
	if err != nil {
		return err
	}
	if key && !fresh {
		if err := e.forceKey(f); err != nil {
			return err
		}
	}
	for {
		select {
		case <-w.run.room:
		case <-w.run.done:
			return errors.New("the device has stopped; Read tells why")
		case <-ctx.Done():
			return ctx.Err()
		}
		err := w.run.put(f)
		if w.run.memory != uapi.MemoryDMABUF || !refused(err) {
			return err
		}
		w.copies = true // the driver cannot reach that memory, or wants more of it
		if err := e.restart(uapi.MemoryMMAP, nil); err != nil {
			return err
		}
	}
}

// refused tells whether the driver refused to import a buffer.
func refused(err error) bool {
	for _, e := range []error{unix.EFAULT, unix.EINVAL, unix.ENOTTY, unix.EOPNOTSUPP, unix.ENXIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// prepare makes the device ready for the picture's kind of memory, and tells whether that made it start anew.
func (e *Encoder) prepare(f *media.Frame) (fresh bool, err error) {
	w := &e.work
	memory := uapi.MemoryMMAP
	if !w.copies && dmabuf(f) {
		memory = uapi.MemoryDMABUF
	}
	if w.run == nil { // it could not start again before
		return true, e.restart(uapi.MemoryMMAP, nil)
	}
	if memory == w.run.memory && (memory == uapi.MemoryMMAP || importable(f, w.run.at)) {
		return false, nil
	}
	if memory == uapi.MemoryDMABUF {
		err := e.restart(memory, f)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, errNotImportable) && !refused(err) {
			return true, err
		}
		w.copies = true
		if w.run != nil { // restart went back to copies by itself
			return true, nil
		}
	}
	return true, e.restart(uapi.MemoryMMAP, nil)
}

func dmabuf(f *media.Frame) bool {
	for _, p := range f.Planes {
		if p.FD < 0 {
			return false
		}
	}
	return len(f.Planes) > 0
}

// restart drains the device and streams anew; the next picture becomes a key frame.
func (e *Encoder) restart(memory uapi.Memory, like *media.Frame) error {
	w := &e.work
	if w.run != nil {
		if err := w.run.finish(); err != nil {
			return err
		}
		w.run = nil
	}
	r, err := e.newRun(memory, like)
	if err != nil {
		if memory == uapi.MemoryDMABUF { // never without a run: the caller copies instead
			w.run, _ = e.newRun(uapi.MemoryMMAP, nil)
			if w.run == nil {
				return fmt.Errorf("start again: %w", errStopped)
			}
		}
		return err
	}
	w.run = r
	return nil
}

// forceKey makes the next picture a key frame: by the control, or, with drivers that have none, by starting anew.
func (e *Encoder) forceKey(f *media.Frame) error {
	if _, ok := has(e.ctl, uapi.CIDForceKeyFrame); ok {
		return e.ctl.SetControls(kernel.Setting{ID: uapi.CIDForceKeyFrame, Value: 1})
	}
	if e.work.run.memory == uapi.MemoryMMAP {
		f = nil
	}
	return e.restart(e.work.run.memory, f)
}

// Read implements encoder.Encoder.
func (e *Encoder) Read(ctx context.Context) (*media.Packet, error) { return e.out.Read(ctx) }

// Apply implements encoder.Encoder.
func (e *Encoder) Apply(p encoder.Params) error {
	want, err := p.Resolve(e.in)
	if err != nil {
		return err
	}
	w := &e.work
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return encoder.ErrClosed
	}
	if !w.params.Live(want) {
		return encoder.ErrRestart
	}
	if err := setLive(e.ctl, e.in, w.params, want); err != nil {
		return err
	}
	w.params = want
	return nil
}

// Close implements encoder.Encoder. It takes up to two seconds when the device hangs.
func (e *Encoder) Close() error {
	w := &e.work
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	var err error
	if w.run != nil {
		err = w.run.finish()
	}
	e.out.End(nil)
	return errors.Join(err, e.dev.Close())
}
