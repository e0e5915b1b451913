package v4l2

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/v4l2/uapi"
)

// A Queue is the set of buffers of one direction of a device, from their allocation to the moment when the last borrower has
// returned the last one. A buffer is with the driver from Enqueue to Dequeue, and with the caller ("lent") from Dequeue to
// Enqueue or Return.
//
// Methods may be called from several goroutines; none blocks but Close.
type Queue struct {
	dev    *Device
	typ    uapi.BufType
	memory uapi.Memory
	orphan bool // the driver lets go of buffers that are still mapped

	mu      sync.Mutex
	bufs    []Buffer
	lent    int
	failure error         // the first Enqueue that failed while nobody could be told
	closing bool          // buffers that come back stay
	idle    chan struct{} // closed when closing and nothing is lent: the memory is freed

	// What is handed to the kernel; a heap object, so that the planes stay where they are.
	arg    uapi.Buffer
	planes [uapi.MaxPlanes]uapi.Plane
}

// A Buffer is one buffer of a Queue of the driver's memory. Its planes of memory stay in place until they are freed.
type Buffer struct {
	Planes []Memory
}

// Memory is one plane of a buffer.
type Memory struct {
	Data []byte // mapped
	FD   int    // DMABUF of this memory; -1 where the driver exports none
}

// NewQueue allocates n buffers of the driver's memory (uapi.MemoryMMAP), maps and exports them; or it prepares n slots for
// buffers of others (uapi.MemoryDMABUF). The driver may change the number: see Len. EBUSY: another program uses the queue.
func (d *Device) NewQueue(t uapi.BufType, m uapi.Memory, n int) (*Queue, error) {
	r := uapi.RequestBuffers{Count: uint32(n), Type: t, Memory: m}
	if err := uapi.ReqBufs(d.fd, &r); err != nil {
		return nil, d.wrap(err)
	}
	q := &Queue{
		dev: d, typ: t, memory: m, orphan: r.Capabilities&uapi.BufCapOrphaned != 0,
		bufs: make([]Buffer, r.Count), idle: make(chan struct{}),
	}
	if m == uapi.MemoryMMAP {
		for i := range q.bufs {
			if err := q.mapBuffer(i); err != nil {
				q.Close(context.Background()) // nothing is lent: it does not block
				return nil, d.wrap(err)
			}
		}
	}
	return q, nil
}

// mapBuffer maps and exports the planes of buffer i.
func (q *Queue) mapBuffer(i int) error {
	b := q.prepare(i)
	if err := uapi.QueryBuf(q.dev.fd, b); err != nil {
		return err
	}
	type place struct {
		offset int64
		length int
	}
	places := []place{{int64(b.M), int(b.Length)}}
	if q.typ.Multiplanar() {
		places = nil
		for _, p := range q.planes[:min(b.Length, uapi.MaxPlanes)] {
			places = append(places, place{int64(p.M), int(p.Length)})
		}
	}
	for plane, at := range places {
		data, err := unix.Mmap(q.dev.fd, at.offset, at.length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map buffer %d: %w", i, err)
		}
		export := uapi.ExportBuffer{Type: q.typ, Index: uint32(i), Plane: uint32(plane), Flags: unix.O_RDWR | unix.O_CLOEXEC}
		fd := -1
		if uapi.ExpBuf(q.dev.fd, &export) == nil { // not every driver can
			fd = int(export.FD)
		}
		q.bufs[i].Planes = append(q.bufs[i].Planes, Memory{Data: data, FD: fd})
	}
	return nil
}

// Len returns the number of buffers.
func (q *Queue) Len() int { return len(q.bufs) }

// Buffer returns buffer i of the driver's memory. It is valid until the queue is closed and nothing is lent.
func (q *Queue) Buffer(i int) *Buffer { return &q.bufs[i] }

// CPU brackets fn's access to the buffer's memory by the processor (DMA_BUF_IOCTL_SYNC), where it is cached apart from the
// device's view. Access is uapi.SyncRead, uapi.SyncWrite or both.
func (b *Buffer) CPU(access uint64, fn func() error) (err error) {
	for _, m := range b.Planes {
		if m.FD < 0 {
			continue
		}
		if err := uapi.DMABUFSync(m.FD, uapi.SyncStart|access); err != nil {
			return err
		}
		defer func() {
			if e := uapi.DMABUFSync(m.FD, uapi.SyncEnd|access); err == nil {
				err = e
			}
		}()
	}
	return fn()
}

// A Fill says what a buffer into the device holds.
type Fill struct {
	Planes []FillPlane
	Time   time.Duration // copied to the coded buffer
	Field  uapi.Field
}

// A FillPlane is one plane of memory of a Fill.
type FillPlane struct {
	FD     int // the DMABUF, for queues of others' buffers
	Length int // bytes of the DMABUF, for queues of others' buffers
	Used   int // bytes in use, counted from the start of the memory
	Offset int // bytes before the data; multi-planar queues only
}

// Enqueue gives buffer i to the driver: to be filled, or, where fill says with what, to be processed. Others' memory is used
// until the buffer is dequeued.
func (q *Queue) Enqueue(i int, fill *Fill) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dev.wrap(q.enqueue(i, fill))
}

func (q *Queue) enqueue(i int, fill *Fill) error {
	b := q.prepare(i)
	if fill != nil {
		b.Field = fill.Field
		b.SetTime(fill.Time)
		switch {
		case q.typ.Multiplanar():
			b.Length = uint32(len(fill.Planes))
			for j, p := range fill.Planes {
				q.planes[j] = uapi.Plane{BytesUsed: uint32(p.Used), DataOffset: uint32(p.Offset)}
				if q.memory == uapi.MemoryDMABUF {
					q.planes[j].M, q.planes[j].Length = uintptr(p.FD), uint32(p.Length)
				}
			}
		default:
			b.BytesUsed = uint32(fill.Planes[0].Used)
			if q.memory == uapi.MemoryDMABUF {
				b.M, b.Length = uintptr(fill.Planes[0].FD), uint32(fill.Planes[0].Length)
			}
		}
	}
	return uapi.QBuf(q.dev.fd, b)
}

// EnqueueAll gives all buffers to the driver, to be filled.
func (q *Queue) EnqueueAll() error {
	for i := range q.bufs {
		if err := q.Enqueue(i, nil); err != nil {
			return err
		}
	}
	return nil
}

// Done is what the driver says about a buffer that it has finished.
type Done struct {
	Index    int
	Time     time.Duration
	Sequence uint32
	Flags    uint32 // uapi.BufFlag...
	Field    uapi.Field
	Planes   int
	Used     [uapi.MaxPlanes]int // bytes from the start of each plane's memory
	Offset   [uapi.MaxPlanes]int // of which these come before the data
}

// Dequeue takes a finished buffer from the driver and lends it to the caller, who gives it to Enqueue or Return. EAGAIN: none
// is finished; EPIPE: the last one of the stream has been taken.
func (q *Queue) Dequeue(out *Done) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.failure; err != nil {
		return err
	}
	b := q.prepare(0)
	if err := uapi.DQBuf(q.dev.fd, b); err != nil {
		if errors.Is(err, unix.EAGAIN) {
			return unix.EAGAIN
		}
		return q.dev.wrap(err)
	}
	q.lent++
	*out = Done{Index: int(b.Index), Time: b.Time(), Sequence: b.Sequence, Flags: b.Flags, Field: b.Field, Planes: 1}
	if q.typ.Multiplanar() {
		out.Planes = int(min(b.Length, uapi.MaxPlanes))
		for i, p := range q.planes[:out.Planes] {
			out.Used[i], out.Offset[i] = int(p.BytesUsed), int(p.DataOffset)
		}
		return nil
	}
	out.Used[0] = int(b.BytesUsed)
	return nil
}

// Return ends a loan: the buffer goes back to the driver to be filled again, or, once the queue is closed, to nobody. What goes
// wrong is reported by the next Dequeue.
func (q *Queue) Return(i int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lent--
	if q.closing {
		if q.lent == 0 {
			q.free()
		}
		return
	}
	if err := q.enqueue(i, nil); err != nil && q.failure == nil {
		q.failure = q.dev.wrap(err)
	}
}

// Keep ends a loan without giving the buffer to the driver; Enqueue does so later.
func (q *Queue) Keep(int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lent--
	if q.closing && q.lent == 0 {
		q.free()
	}
}

// Lent returns how many buffers the caller holds.
func (q *Queue) Lent() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lent
}

// Err returns what went wrong in Return.
func (q *Queue) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failure
}

// StreamOn starts the queue.
func (q *Queue) StreamOn() error { return q.dev.wrap(uapi.StreamOn(q.dev.fd, q.typ)) }

// StreamOff stops the queue; all buffers come back from the driver, unfinished.
func (q *Queue) StreamOff() error { return q.dev.wrap(uapi.StreamOff(q.dev.fd, q.typ)) }

// Close stops the queue and frees its buffers; the device takes a new queue then. Lent buffers stay valid until they are
// returned. Drivers before Linux 4.20 free nothing that is in use: with those, Close waits for the loans to end, or for ctx.
// A second Close does nothing.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	if q.closing {
		q.mu.Unlock()
		return nil
	}
	q.closing = true
	stop := uapi.StreamOff(q.dev.fd, q.typ)
	if q.lent == 0 {
		q.free()
	}
	wait := q.lent > 0 && !q.orphan
	q.mu.Unlock()
	if wait {
		select {
		case <-q.idle:
		case <-ctx.Done():
			return fmt.Errorf("%s: free the buffers: %w", q.dev.path, context.Cause(ctx))
		}
	}
	r := uapi.RequestBuffers{Type: q.typ, Memory: q.memory}
	return q.dev.wrap(errors.Join(stop, uapi.ReqBufs(q.dev.fd, &r)))
}

// Idle is closed once the queue is closed and its last loan has ended.
func (q *Queue) Idle() <-chan struct{} { return q.idle }

// free unmaps the buffers. The caller holds mu.
func (q *Queue) free() {
	for _, b := range q.bufs {
		for _, m := range b.Planes {
			unix.Munmap(m.Data)
			if m.FD >= 0 {
				unix.Close(m.FD)
			}
		}
	}
	close(q.idle)
}

// prepare readies the argument of an ioctl about buffer i. The caller holds mu, or is alone.
func (q *Queue) prepare(i int) *uapi.Buffer {
	q.arg = uapi.Buffer{Index: uint32(i), Type: q.typ, Memory: q.memory}
	if q.typ.Multiplanar() {
		q.planes = [uapi.MaxPlanes]uapi.Plane{}
		q.arg.SetPlanes(q.planes[:])
	}
	return &q.arg
}
