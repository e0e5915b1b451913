package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/media"
)

// A doubler makes pictures of twice the height, except of those that are bad.
type doubler struct {
	pool   *media.Pool
	format media.VideoFormat
	bad    func(seq uint32) bool
	closed *int
}

func (d *doubler) Format() media.VideoFormat { return d.format }
func (d *doubler) Close() error              { *d.closed++; return nil }

func (d *doubler) Convert(f *media.Frame) ([]*media.Frame, error) {
	if d.bad(f.Seq) {
		return nil, errors.New("torn")
	}
	out := d.pool.Get()
	if out == nil {
		return nil, errors.New("no room")
	}
	out.PTS, out.Seq = f.PTS, f.Seq
	return []*media.Frame{out}, nil
}

func doubled(r *rig, bad func(uint32) bool) (closed *int) {
	closed = new(int)
	open := r.spec.Video.Open
	r.spec.Video.Open = func(ctx context.Context) (device.Source, error) {
		src, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return Converted(src, func(in media.VideoFormat) (encoder.Converter, error) {
			switch in.Field {
			case media.BottomFieldFirst:
				return nil, errors.New("no way to deinterlace")
			case media.TopFieldFirst:
				out := in
				out.Height, out.Field = 2*in.Height, media.Progressive
				return &doubler{pool: media.NewPool(out, 8), format: out, bad: bad, closed: closed}, nil
			}
			return nil, nil
		}), nil
	}
	return closed
}

// The whole session sees the converted format; a bad picture is one lost picture; a format that needs no conversion gets none.
func TestConvertedSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		var closed *int
		r := start(t, func(r *rig) {
			r.camera.format.Field = media.TopFieldFirst
			closed = doubled(r, func(seq uint32) bool { return seq%10 == 0 })
		}, p)
		sleep(2 * time.Second)
		st := r.Status()
		if st.Video.Format.Height != 72 || st.Video.Format.Field != media.Progressive || !st.Video.Signal {
			t.Errorf("%+v", st.Video)
		}
		if st.Video.Lost < 4 || st.Video.Lost > 5 || r.camera.opened != 1 {
			t.Errorf("%d lost of 50, a tenth of which is bad; opened %d times", st.Video.Lost, r.camera.opened)
		}
		r.camera.set(func(c *camera) { c.read = device.ErrFormatChanged })
		sleep(50 * time.Millisecond)
		r.camera.set(func(c *camera) { c.read = nil; c.format.Field = media.Progressive })
		sleep(2 * time.Second)
		if st := r.Status(); st.Video.Format.Height != 36 || !st.Video.Signal || *closed != 1 || st.Uplinks[0].Connects != 1 {
			t.Errorf("closed %d: %+v", *closed, st.Video)
		}
	})
}

// A weaver makes two pictures of one, half an interval apart.
type weaver struct{ doubler }

func (w *weaver) Convert(f *media.Frame) ([]*media.Frame, error) {
	first, second := w.pool.Get(), w.pool.Get()
	first.PTS, first.Seq = f.PTS, 2*f.Seq
	second.PTS, second.Seq = f.PTS+20*time.Millisecond, 2*f.Seq+1
	return []*media.Frame{first, second}, nil
}

// Of two pictures that one becomes, both are coded, each at its time: 25 pictures of two fields are 50 a second.
func TestSourceOfFields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, func(r *rig) {
			open := r.spec.Video.Open
			r.spec.Video.Open = func(ctx context.Context) (device.Source, error) {
				src, err := open(ctx)
				return Converted(src, func(in media.VideoFormat) (encoder.Converter, error) {
					in.Rate.Num *= 2
					return &weaver{doubler{pool: media.NewPool(in, 8), format: in, closed: new(int)}}, nil
				}), err
			}
		}, p)
		sleep(4 * time.Second)
		st := r.Status()
		if st.Video.Lost+st.Video.Replaced+st.Video.Late != 0 || st.Encoder.Rate < 49 || st.Encoder.Rate > 51 {
			t.Errorf("%.1f pictures a second coded, %d lost, %d replaced, %d late", st.Encoder.Rate, st.Video.Lost, st.Video.Replaced, st.Video.Late)
		}
	})
}

// Nothing but bad pictures, or a format without a way: the slate says why.
func TestSourceThatCannotBeConverted(t *testing.T) {
	for order, reason := range map[media.FieldOrder]string{media.TopFieldFirst: "torn", media.BottomFieldFirst: "no way to deinterlace"} {
		bubble(t, func(t *testing.T) {
			p := newPeer("a")
			r := start(t, func(r *rig) {
				r.camera.format.Field = order
				doubled(r, func(uint32) bool { return true })
			}, p)
			sleep(5 * time.Second)
			if st := r.Status(); st.Video.Signal || !strings.Contains(st.Video.Reason, reason) || st.Uplinks[0].State != Connected {
				t.Errorf("%+v, %v", st.Video, st.Uplinks[0].State)
			}
			if len(p.got()) == 0 {
				t.Error("no slate")
			}
		})
	}
}
