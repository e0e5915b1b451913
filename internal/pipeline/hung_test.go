package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/media"
)

// An encoder whose call never returns, as one hung in a driver does, is left behind, and the next one goes on; the destination does
// not notice more than a pause. When the call returns after all, nothing is left over.
func TestHungEncoderIsLeftBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		free := make(chan struct{})
		spare := &chip{name: "spare", bytes: 8}
		r := start(t, func(r *rig) {
			r.spec.Encoder.Backends = []encoder.Backend{hanging(r.chip, 400, free), spare.backend()}
		}, p)
		sleep(30 * time.Second)
		st := r.Status()
		if st.Encoder.Name != "spare" || st.Encoder.Opened != 2 || st.Uplinks[0].Connects != 1 || !st.Video.Signal {
			t.Errorf("%+v", st)
		}
		steady(t, p.got(), encoderStuck+hangGrace+encoderBackoff.Min+5*frame, true)
		list := r.health.Conditions()
		if len(list) != 1 || list[0].Code != "encoder-hung" || !strings.Contains(list[0].Reason, "chip does not return") {
			t.Errorf("conditions %v", list)
		}
		close(free)
		sleep(time.Second)
		if list := r.health.Conditions(); len(list) != 0 || r.chip.live != 0 {
			t.Errorf("after it returned: %v, %d open", list, r.chip.live)
		}
	})
}

// An encoder that does not even open is left behind as well.
func TestEncoderThatHangsWhenOpened(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		free := make(chan struct{})
		spare := &chip{name: "spare", bytes: 8}
		r := start(t, func(r *rig) {
			r.spec.Encoder.Backends = []encoder.Backend{hanging(r.chip, -1, free), spare.backend()}
		}, p)
		sleep(15 * time.Second)
		if st := r.Status(); st.Encoder.Name != "spare" || st.Uplinks[0].Connects != 1 {
			t.Errorf("%+v", st)
		}
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "encoder-hung" {
			t.Errorf("conditions %v", list)
		}
		close(free)
		sleep(time.Second)
		if list := r.health.Conditions(); len(list) != 0 || r.chip.live != 0 {
			t.Errorf("after it opened: %v, %d open", list, r.chip.live)
		}
	})
}

// A machine whose encoders all hang is left to the service manager: what is left behind has a bound, and progress ends.
func TestEncodersThatAllHang(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		free := make(chan struct{})
		r := start(t, func(r *rig) {
			r.spec.Encoder.Backends = []encoder.Backend{hanging(r.chip, 10, free)}
		}, p)
		sleep(time.Minute)
		before := r.Progress()
		sleep(time.Minute)
		if st := r.Status(); r.Progress() != before || st.Encoder.Opened != mostLeft+1 || st.Uplinks[0].Connects != 1 {
			t.Errorf("progress from %d to %d: %+v", before, r.Progress(), st)
		}
		close(free)
	})
}

// hanging is a backend whose encoders hang after so many pictures until they are freed; -1: when they are opened.
func hanging(c *chip, after int, free chan struct{}) encoder.Backend {
	b := c.backend()
	open := b.Open
	b.Open = func(ctx context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
		if after < 0 {
			<-free
			return open(ctx, in, p)
		}
		e, err := open(ctx, in, p)
		return &hung{Encoder: e, after: after, free: free}, err
	}
	return b
}

// hung is an encoder that does not return from a call until it is freed, whatever its context says.
type hung struct {
	encoder.Encoder
	after int
	free  chan struct{}
}

func (h *hung) Encode(ctx context.Context, f *media.Frame, key bool) error {
	if h.after--; h.after < 0 {
		<-h.free
		return nil
	}
	return h.Encoder.Encode(ctx, f, key)
}
