package whip

import (
	"gantry/media/h264"
)

// reorderedEnough pictures out of order are no accident; inOrderEnough pictures in order clear the stream of them.
const (
	reorderedEnough = 2
	inOrderEnough   = 300
)

// An order watches a track for pictures that are not sent in the order in which they are shown: by their RTP times, and in
// H.264 by their picture order count, for senders that stamp with decoding times.
type order struct {
	changed func(bframes bool)

	bframes bool
	count   int // pictures that speak against bframes' present value
	begun   bool
	last    uint32
	poc     h264.Order
	scratch []byte
}

// picture takes the first slice of an H.264 picture and what came before it.
func (o *order) picture(u *unit, slice []byte) {
	o.scratch = o.scratch[:0]
	for _, pkt := range u.held {
		o.collect(pkt.Data)
	}
	o.collect(slice)
	p := o.poc.Observe(o.scratch)
	o.judge(p.B && p.Reordered || o.backwards(u.ts))
}

// collect appends the SPS and the heads of slices.
func (o *order) collect(payload []byte) {
	for n := range h264.RTPUnits(payload) {
		switch {
		case n.Type() == h264.SPS:
			o.scratch = n.AppendTo(o.scratch, len(n.Body))
		case n.Slice():
			o.scratch = n.AppendTo(o.scratch, headBytes)
		}
	}
}

// times takes the RTP time of a picture of any codec.
func (o *order) times(ts uint32) { o.judge(o.backwards(ts)) }

// backwards tells whether ts is a little before the picture before it: a long way is a new count.
func (o *order) backwards(ts uint32) bool {
	step := int32(ts - o.last)
	back := o.begun && step < 0 && step > -2*90000
	o.begun, o.last = true, ts
	return back
}

func (o *order) judge(reordered bool) {
	switch {
	case reordered == o.bframes:
		if o.bframes {
			o.count = 0
		}
		return
	case !o.bframes:
		if o.count++; o.count < reorderedEnough {
			return
		}
	default:
		if o.count++; o.count < inOrderEnough {
			return
		}
	}
	o.bframes, o.count = reordered, 0
	o.changed(reordered)
}
