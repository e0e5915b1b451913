package v4l2

import (
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// A weaver makes whole interlaced pictures of single fields, as many HDMI and SDI receivers deliver them (V4L2_FIELD_ALTERNATE).
type weaver struct {
	pool  *media.Pool
	first uapi.Field // of a picture
	held  *media.Frame
}

// newWeaver returns one for pictures of this format and field order, of which n may be in use.
func newWeaver(format media.VideoFormat, n int) *weaver {
	w := &weaver{pool: media.NewPool(format, n), first: uapi.FieldTop}
	if format.Field == media.BottomFieldFirst {
		w.first = uapi.FieldBottom
	}
	return w
}

// add takes over a field and returns the picture that it completes, which the caller owns, or nil. A field whose other half is missing
// is lost.
func (w *weaver) add(f *media.Frame, field uapi.Field) *media.Frame {
	held := w.held
	w.held = nil
	if field == w.first {
		w.held = f
	} else {
		defer f.Release()
	}
	if held == nil {
		return nil
	}
	defer held.Release()
	// Drivers shall number both fields alike; some number each.
	if field == w.first || f.Seq-held.Seq > 1 {
		return nil
	}
	out := w.pool.Get()
	if out == nil { // all are in use downstream
		return nil
	}
	top, bottom := held, f
	if w.first == uapi.FieldBottom {
		top, bottom = f, held
	}
	if copyField(out, top, 0) != nil || copyField(out, bottom, 1) != nil {
		out.Release()
		return nil
	}
	out.PTS, out.Seq = held.PTS, held.Seq
	if f.Seq != held.Seq {
		out.Seq /= 2
	}
	return out
}

// copyField copies a field to every other line of a picture, from line on.
func copyField(to, field *media.Frame, line int) error {
	return to.CPU(func(planes [][]byte) error {
		return field.CPU(func(from [][]byte) error {
			for i, p := range to.Planes {
				step := field.Planes[i].Stride
				for y, at := line, 0; (y+1)*p.Stride <= len(planes[i]) && at < len(from[i]); y, at = y+2, at+step {
					copy(planes[i][y*p.Stride:(y+1)*p.Stride], from[i][at:])
				}
			}
			return nil
		})
	})
}

// end gives back what is held.
func (w *weaver) end() {
	if w != nil && w.held != nil {
		w.held.Release()
		w.held = nil
	}
}
