package pipeline

import (
	"slices"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/media"
)

// withLow gives the rig a further encode, and its destination b that rendition.
func withLow(r *rig) *chip {
	low := &chip{name: "low", bytes: 8}
	r.spec.Renditions = []Rendition{{Name: "low", Encoder: Encoder{Key: 1, Floor: 100_000, Backends: []encoder.Backend{low.backend()},
		Params: encoder.Params{Codec: media.H265, Bitrate: 500_000, GOP: 2 * time.Second}}}}
	r.spec.Uplinks[1].Rendition = "low"
	return low
}

func keyTimes(packets []*media.Packet) (at []time.Duration) {
	for _, p := range packets {
		if p.Key {
			at = append(at, p.PTS)
		}
	}
	return at
}

// Each destination gets the pictures that it chose; key frames are at the same pictures, whoever asks and whatever fails; a narrow
// path makes only its own rendition smaller.
func TestRenditions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		var low *chip
		r := start(t, func(r *rig) { low = withLow(r) }, a, b)
		aligned := func(what string, least int) {
			t.Helper()
			at, bt := keyTimes(a.got()), keyTimes(b.got())
			if !slices.Equal(at, bt) || len(at) < least {
				t.Errorf("%s: key frames at %v and %v", what, at, bt)
			}
		}
		sleep(time.Second) // they have connected, which asks for key frames
		a.got()
		b.got()
		if a.tracks[0].RID != "" || a.tracks[0].Codec != media.H264 || b.tracks[0].RID != "low" || b.tracks[0].Codec != media.H265 {
			t.Errorf("%+v, %+v", a.tracks, b.tracks)
		}
		sleep(7 * time.Second)
		aligned("by the clock", 3)
		b.feedback(media.Feedback{KeyFrame: true})
		sleep(time.Second)
		aligned("on demand", 1)
		low.set(func(c *chip) { c.fail = errCrashed })
		sleep(500 * time.Millisecond)
		a.got()
		b.got()
		sleep(8 * time.Second)
		aligned("after one has been opened anew", 3)
		b.feedback(media.Feedback{Bitrate: 300_000})
		sleep(time.Second)
		st := r.Status()
		if st.Encoder.Target != 2_000_000 || len(st.Renditions) != 1 || st.Renditions[0].Target > 300_000 || st.Renditions[0].Track.RID != "low" {
			t.Errorf("%+v, %+v", st.Encoder, st.Renditions)
		}
		if runs, _ := a.count(); runs != 1 || st.Renditions[0].Opened != 2 {
			t.Errorf("a connected %d times; %+v", runs, st.Renditions)
		}
	})
}

// A rendition comes and goes without a trace at the destinations of others.
func TestRenditionsChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		var low *chip
		r := start(t, func(r *rig) { low = withLow(r) }, a, b)
		sleep(time.Second)
		with, without := r.spec, r.spec
		without.Renditions, without.Uplinks = nil, r.spec.Uplinks[:1]
		r.Apply(without)
		sleep(time.Second)
		if low.live != 0 || len(r.Status().Renditions) != 0 {
			t.Errorf("%d encoders of a rendition that is no more", low.live)
		}
		b.got()
		r.Apply(with)
		sleep(3 * time.Second)
		steady(t, b.got(), frame, true)
		steady(t, a.got(), frame, true)
		if runs, _ := a.count(); runs != 1 || low.live != 1 {
			t.Errorf("a connected %d times, %d encoders", runs, low.live)
		}
		with.Renditions = slices.Clone(with.Renditions)
		with.Renditions[0].Encoder.Params.Bitrate = 400_000
		r.Apply(with)
		sleep(time.Second)
		if !slices.Contains(low.applied, 400_000) || len(low.opened) != 2 {
			t.Errorf("applied %v, opened %d", low.applied, len(low.opened))
		}
	})
}
