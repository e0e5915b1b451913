package media

import (
	"sync/atomic"
	"time"
)

// A Plane is one plane of a picture inside its buffer.
type Plane struct {
	FD     int // DMABUF file descriptor that importers may use while they hold the Frame; -1 when there is none
	Offset int // bytes from the start of the buffer
	Stride int // bytes from one line to the next
	Len    int // bytes in use
}

// A Memory owns the buffer behind a Frame: a kernel buffer, a codec's, or a Pool's.
type Memory interface {
	// CPU lends the planes' bytes to fn. On cached device memory it brackets fn with DMA_BUF_IOCTL_SYNC.
	CPU(f *Frame, fn func(planes [][]byte) error) error
	// Release takes the buffer back. It is called once, when the last reference is gone, by whoever held it, and must not block.
	Release(f *Frame)
}

// A Frame is one captured picture in memory that somebody owns. Returned to you, it carries one reference: Release it.
// Passed to you, it is lent for the call: Retain it to keep it. Its fields are read-only once it has been handed on.
type Frame struct {
	Format VideoFormat
	PTS    time.Duration // CLOCK_MONOTONIC at capture, from the driver
	Seq    uint32        // the driver's sequence number: a gap is a lost picture
	Slot   int           // index in the source's pool: importers cache DMABUF mappings by Slot
	Planes []Plane

	mem  Memory
	refs atomic.Int32
}

var outstanding atomic.Int64

// OutstandingFrames returns how many Frames of the process have not been released. Tests end with 0.
func OutstandingFrames() int { return int(outstanding.Load()) }

// NewFrame returns a Frame with one reference. The caller sets PTS, Seq and Slot before handing it on.
func NewFrame(format VideoFormat, planes []Plane, mem Memory) *Frame {
	f := &Frame{Format: format, Planes: planes, mem: mem}
	f.refs.Store(1)
	outstanding.Add(1)
	return f
}

// Retain adds a reference and returns f. It panics on a released Frame.
func (f *Frame) Retain() *Frame {
	if f.refs.Add(1) <= 1 {
		panic("media: Retain of a released Frame")
	}
	return f
}

// Release drops one reference; the last one gives the buffer back to its owner. It panics when there is none left.
func (f *Frame) Release() {
	switch n := f.refs.Add(-1); {
	case n == 0:
		outstanding.Add(-1)
		f.mem.Release(f)
	case n < 0:
		panic("media: Release of a released Frame")
	}
}

// CPU lends the pixels, one slice a plane, for the time of fn and returns fn's error. Only who fills a fresh Frame writes.
func (f *Frame) CPU(fn func(planes [][]byte) error) error { return f.mem.CPU(f, fn) }

// A Pool hands out Frames in Go memory, for sources that draw and converters that write pictures. It keeps the buffers of
// released Frames for the next ones, so a steady flow allocates no pixels.
type Pool struct {
	format VideoFormat
	planes []Plane
	free   chan poolBuffer
	size   int
	made   int
}

type poolBuffer struct {
	slot int
	data []byte
}

// NewPool returns a Pool of at most n Frames outstanding at a time. It panics on a compressed format.
func NewPool(format VideoFormat, n int) *Pool {
	planes, size := format.Packed()
	if planes == nil {
		panic("media: no packed layout for " + format.FourCC.String())
	}
	return &Pool{format: format, planes: planes, free: make(chan poolBuffer, n), size: size}
}

// Get returns a Frame whose pixels hold whatever was there before, or nil when all n are outstanding: the caller then drops
// a picture. One goroutine calls Get; Frames may be released by any.
func (p *Pool) Get() *Frame {
	var b poolBuffer
	select {
	case b = <-p.free:
	default:
		if p.made == cap(p.free) {
			return nil
		}
		b = poolBuffer{slot: p.made, data: make([]byte, p.size)}
		p.made++
	}
	f := NewFrame(p.format, p.planes, &poolMemory{pool: p, buf: b})
	f.Slot = b.slot
	return f
}

type poolMemory struct {
	pool *Pool
	buf  poolBuffer
}

func (m *poolMemory) CPU(f *Frame, fn func([][]byte) error) error {
	planes := make([][]byte, len(f.Planes))
	for i, p := range f.Planes {
		planes[i] = m.buf.data[p.Offset : p.Offset+p.Len : p.Offset+p.Len]
	}
	return fn(planes)
}

func (m *poolMemory) Release(*Frame) { m.pool.free <- m.buf }

// Audio is a run of raw samples. It is ordinary Go memory: immutable once handed on, shared freely.
type Audio struct {
	Format  AudioFormat
	PTS     time.Duration // CLOCK_MONOTONIC at capture of the first sample
	Samples []float32     // interleaved, -1…1
}

// Duration returns how long the samples play.
func (a *Audio) Duration() time.Duration {
	if a.Format.Rate == 0 || a.Format.Channels == 0 {
		return 0
	}
	return time.Duration(len(a.Samples)/a.Format.Channels) * time.Second / time.Duration(a.Format.Rate)
}
