package v4l2

import (
	"time"

	"gantry/internal/clock"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// A run is one streaming of the device, in one format.
type run struct {
	queue  *kernel.Queue
	format media.VideoFormat
	places []planePlace
	coded  bool // a picture is as long as the driver says
	slots  []slot
	signal signal
	looked time.Duration // PTS of the picture at which the signal was looked at last
	done   kernel.Done
	weaver *weaver // nil: the device delivers whole pictures
	over   error   // why it ended; sticks until the next Start
}

// A slot is the media.Memory of one buffer.
type slot struct {
	queue  *kernel.Queue
	index  int
	places []planePlace
	planes []media.Plane // shared by all Frames of this buffer
}

func newRun(queue *kernel.Queue, l layout, format media.VideoFormat, where []planePlace) *run {
	r := &run{queue: queue, format: format, places: where, coded: l.coded(), slots: make([]slot, queue.Len())}
	for i := range r.slots {
		planes := make([]media.Plane, len(where))
		for j, p := range where {
			planes[j] = p.Plane
			planes[j].FD = queue.Buffer(i).Planes[p.memory].FD
		}
		r.slots[i] = slot{queue: queue, index: i, places: where, planes: planes}
	}
	return r
}

// next takes a finished picture; nil for a damaged one, which has gone back to the driver.
func (r *run) next() (*media.Frame, error) {
	d := &r.done
	if err := r.queue.Dequeue(d); err != nil {
		return nil, err
	}
	if d.Flags&uapi.BufFlagError != 0 || !r.whole(d) {
		r.queue.Return(d.Index)
		return nil, nil
	}
	s := &r.slots[d.Index]
	planes := s.planesAt(d)
	if r.coded {
		planes = []media.Plane{planes[0]}
		planes[0].Len = d.Used[0] - d.Offset[0]
	}
	f := media.NewFrame(r.format, planes, s)
	f.Seq, f.Slot = d.Sequence, d.Index
	f.PTS = d.Time
	if d.Flags&uapi.BufFlagTimestampMask != uapi.BufFlagMonotonic {
		f.PTS = clock.Now() // the driver has another clock, or none
	}
	return f, nil
}

// whole reports whether all lines have come; the padding of the last one may be missing.
func (r *run) whole(d *kernel.Done) bool {
	if r.coded {
		return d.Planes > 0 && d.Offset[0] >= 0 && d.Used[0] > d.Offset[0] && d.Used[0] <= r.places[0].Len
	}
	packed := 0
	for i, p := range r.places {
		if i == 0 || p.Stride < packed {
			packed = p.Stride
		}
		if p.memory >= d.Planes || d.Used[p.memory]-d.Offset[p.memory] < p.Offset+p.Len-packed {
			return false
		}
	}
	return true
}

// planesAt returns the planes, moved where the driver put a header before the data.
func (s *slot) planesAt(d *kernel.Done) []media.Plane {
	if d.Offset == ([uapi.MaxPlanes]int{}) {
		return s.planes
	}
	moved := make([]media.Plane, len(s.planes))
	for i, p := range s.planes {
		p.Offset += d.Offset[s.places[i].memory]
		moved[i] = p
	}
	return moved
}

// CPU implements media.Memory.
func (s *slot) CPU(f *media.Frame, fn func(planes [][]byte) error) error {
	b := s.queue.Buffer(s.index)
	return b.CPU(uapi.SyncRead, func() error {
		planes := make([][]byte, len(f.Planes))
		for i, p := range f.Planes {
			planes[i] = b.Planes[s.places[i].memory].Data[p.Offset : p.Offset+p.Len : p.Offset+p.Len]
		}
		return fn(planes)
	})
}

// Release implements media.Memory.
func (s *slot) Release(*media.Frame) { s.queue.Return(s.index) }
