package m2m

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

const (
	inFlight    = 3  // pictures inside the encoder at a time: more would only add delay, and starve the capture device
	importSlots = 32 // buffers for imported pictures: one for each of the source's, so that each keeps its mapping
	copies      = inFlight + 1
	codedCount  = 4
	drainLimit  = 2 * time.Second
)

var (
	errStuck   = errors.New("the encoder took pictures and made nothing of them")
	errDrain   = errors.New("the encoder did not finish its last pictures")
	errStopped = errors.New("stopped")
)

// A run is one streaming of the device with one kind of input memory.
type run struct {
	e        *Encoder
	memory   uapi.Memory
	format   kernel.Format
	at       []place
	pictures *kernel.Queue
	packets  *kernel.Queue
	waiter   *kernel.Waiter
	room     chan struct{} // a token for each picture that may go in
	stop     context.CancelCauseFunc
	done     chan struct{} // closed when loop has ended

	mu      sync.Mutex
	frames  []*media.Frame // imported, by buffer
	busy    []bool         // by buffer
	pending []pending      // pictures that went in, in order
	last    bool           // drained
}

type pending struct {
	pts time.Duration
	in  time.Time
}

// newRun sets the formats, allocates the buffers and streams. like is a picture whose layout the encoder shall read, or nil.
func (e *Encoder) newRun(memory uapi.Memory, like *media.Frame) (*run, error) {
	r := &run{e: e, memory: memory, room: make(chan struct{}, inFlight), done: make(chan struct{})}
	var err error
	if r.format, err = e.setFormats(like); err != nil {
		return nil, err
	}
	if r.at, err = places(e.in.FourCC, r.format); err != nil {
		return nil, err
	}
	if like != nil && !importable(like, r.at) {
		return nil, errNotImportable
	}
	n := copies
	if memory == uapi.MemoryDMABUF {
		n = importSlots
	}
	if r.pictures, err = e.dev.NewQueue(e.dev.OutputType(), memory, n); err != nil {
		return nil, err
	}
	if r.packets, err = e.dev.NewQueue(e.dev.CaptureType(), uapi.MemoryMMAP, codedCount); err == nil {
		r.waiter, err = e.dev.NewWaiter()
	}
	if err == nil {
		err = errors.Join(r.packets.EnqueueAll(), r.pictures.StreamOn(), r.packets.StreamOn())
	}
	if err != nil {
		return nil, errors.Join(err, r.free())
	}
	r.frames, r.busy = make([]*media.Frame, r.pictures.Len()), make([]bool, r.pictures.Len())
	for range min(inFlight, r.pictures.Len()) {
		r.room <- struct{}{}
	}
	ctx, stop := context.WithCancelCause(context.Background())
	r.stop = stop
	go r.loop(ctx)
	return r, nil
}

var errNotImportable = errors.New("the encoder wants another layout in memory")

// setFormats sets both formats and the rate, in the order of the kernel's description of stateful encoders.
func (e *Encoder) setFormats(like *media.Frame) (kernel.Format, error) {
	out, in := e.dev.OutputType(), e.dev.CaptureType()
	coded := kernel.Format{Width: e.width, Height: e.height, FourCC: e.k.fourcc, Planes: []kernel.PlaneFormat{{Size: e.width*e.height + 4096}}}
	if got, err := e.dev.SetFormat(in, coded); err != nil || got.FourCC != e.k.fourcc {
		return got, fmt.Errorf("set format %v: %w, the driver takes %v", coded, err, got)
	}
	want := kernel.Format{Width: e.width, Height: e.height, FourCC: e.code, Field: uapi.FieldNone}
	colour(e.in, &want)
	if like != nil {
		for _, p := range like.Planes {
			want.Planes = append(want.Planes, kernel.PlaneFormat{Stride: p.Stride})
			if e.code == e.in.FourCC {
				break // one memory
			}
		}
	}
	got, err := e.dev.SetFormat(out, want)
	if err != nil || got.FourCC != e.code || got.Width < e.width || got.Height < e.height {
		return got, fmt.Errorf("set format %v: %w, the driver takes %v", want, err, got)
	}
	if got.Width != e.width || got.Height != e.height {
		if err := e.dev.Crop(out, e.width, e.height); err != nil {
			return got, err
		}
	}
	if _, err := e.dev.SetFrameRate(out, e.in.Rate); err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
		return got, err
	}
	return got, nil
}

// put gives the picture to the encoder; the caller holds a token of room, which comes back with the buffer.
func (r *run) put(f *media.Frame) error {
	r.mu.Lock()
	i := f.Slot
	if i < 0 || i >= len(r.busy) || r.busy[i] || r.memory == uapi.MemoryMMAP {
		for i = 0; r.busy[i]; i++ { // fewer are busy than there are
		}
	}
	r.busy[i] = true
	r.mu.Unlock()
	err := r.fill(i, f)
	if err != nil {
		r.mu.Lock()
		r.busy[i] = false
		if r.frames[i] != nil {
			r.frames[i].Release()
			r.frames[i] = nil
		}
		r.mu.Unlock()
		r.room <- struct{}{}
	}
	return err
}

func (r *run) fill(i int, f *media.Frame) error {
	fill := kernel.Fill{Time: f.PTS.Truncate(time.Microsecond), Field: uapi.FieldNone}
	for j, at := range r.at {
		if at.memory == len(fill.Planes) {
			fill.Planes = append(fill.Planes, kernel.FillPlane{FD: f.Planes[j].FD, Length: r.format.Planes[at.memory].Size})
		}
		fill.Planes[at.memory].Used = at.Offset + at.Len
	}
	if r.memory == uapi.MemoryMMAP {
		if err := copyTo(r.pictures.Buffer(i), r.at, f, r.e.width, r.e.height); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if r.memory == uapi.MemoryDMABUF {
		r.frames[i] = f.Retain() // until the encoder has read it
	}
	r.pending = append(r.pending, pending{f.PTS, time.Now()})
	r.mu.Unlock()
	if err := r.pictures.Enqueue(i, &fill); err != nil {
		r.mu.Lock()
		r.pending = r.pending[:len(r.pending)-1]
		r.mu.Unlock()
		return err
	}
	if r.memory == uapi.MemoryDMABUF {
		r.e.imported.Add(1)
	} else {
		r.e.copied.Add(1)
	}
	return nil
}

// loop takes what the device has done, until it is drained or stopped.
func (r *run) loop(ctx context.Context) {
	defer close(r.done)
	err := r.work(ctx)
	if err != nil && !errors.Is(err, errStopped) {
		r.e.out.End(err)
	}
}

func (r *run) work(ctx context.Context) error {
	for {
		ready, err := r.waiter.Wait(ctx, kernel.Readable|kernel.Writable, r.e.stuck/4)
		if err != nil {
			return err
		}
		taken, err := r.takePictures()
		if err != nil {
			return err
		}
		made, last, err := r.takePackets()
		switch {
		case err != nil:
			return err
		case last:
			r.mu.Lock()
			r.last = true
			r.mu.Unlock()
			return nil
		case taken+made == 0 && ready&kernel.Failed != 0:
			return fmt.Errorf("%s: %w", r.e.dev.Path(), unix.EIO)
		case made == 0 && r.late():
			return fmt.Errorf("%s: %w for %v", r.e.dev.Path(), errStuck, r.e.stuck)
		}
	}
}

func (r *run) late() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) > 0 && time.Since(r.pending[0].in) > r.e.stuck
}

// takePictures takes back the buffers that the encoder has read.
func (r *run) takePictures() (n int, err error) {
	var d kernel.Done
	for ; ; n++ {
		err := r.pictures.Dequeue(&d)
		if errors.Is(err, unix.EAGAIN) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		r.pictures.Keep(d.Index)
		r.mu.Lock()
		f := r.frames[d.Index]
		r.frames[d.Index], r.busy[d.Index] = nil, false
		r.mu.Unlock()
		if f != nil {
			f.Release()
		}
		r.room <- struct{}{}
	}
}

// takePackets hands the coded pictures on.
func (r *run) takePackets() (n int, last bool, err error) {
	var d kernel.Done
	for ; ; n++ {
		err := r.packets.Dequeue(&d)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return n, false, nil
		case errors.Is(err, unix.EPIPE):
			return n, true, nil
		case err != nil:
			return n, false, err
		}
		if used := d.Used[0] - d.Offset[0]; used > 0 && d.Flags&uapi.BufFlagError == 0 {
			r.packet(&d)
		}
		if d.Flags&uapi.BufFlagLast != 0 {
			r.packets.Keep(d.Index)
			return n, true, nil
		}
		r.packets.Return(d.Index)
	}
}

func (r *run) packet(d *kernel.Done) {
	var data []byte
	b := r.packets.Buffer(d.Index)
	_ = b.CPU(uapi.SyncRead, func() error { // without an exported DMABUF there is nothing to synchronise, with one it cannot fail
		data = bytes.Clone(b.Planes[0].Data[d.Offset[0]:d.Used[0]])
		return nil
	})
	key := d.Flags&uapi.BufFlagKeyframe != 0 || r.e.k.key(data)
	if r.e.complete != nil {
		data = r.e.complete(data, key)
	}
	pts := r.pts(d.Time)
	r.e.out.Put(&media.Packet{PTS: pts, DTS: pts, Start: true, End: true, Key: key, Data: data})
}

// pts returns the exact time of the picture that the kernel, which keeps microseconds, calls at. The driver may have dropped
// pictures before it.
func (r *run) pts(at time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range r.pending {
		if p.pts.Truncate(time.Microsecond) == at {
			r.pending = append(r.pending[:0], r.pending[i+1:]...)
			return p.pts
		}
	}
	return at
}

// finish drains the encoder into its Output and frees the queues.
func (r *run) finish() error {
	var err error
	select {
	case <-r.done:
	default:
		if err = r.e.dev.StopEncoder(); err == nil {
			limit := time.NewTimer(drainLimit)
			defer limit.Stop()
			select {
			case <-r.done:
			case <-limit.C:
				err = errDrain
			}
		}
	}
	r.stop(errStopped)
	<-r.done
	return errors.Join(err, r.free())
}

// free stops both queues; imported pictures go back to their source.
func (r *run) free() error {
	var errs []error
	for _, q := range []*kernel.Queue{r.pictures, r.packets} {
		if q != nil {
			errs = append(errs, q.Close(context.Background())) // nothing is lent
		}
	}
	for _, f := range r.frames {
		if f != nil {
			f.Release()
		}
	}
	r.frames = nil
	if r.waiter != nil {
		errs = append(errs, r.waiter.Close())
	}
	return errors.Join(errs...)
}
