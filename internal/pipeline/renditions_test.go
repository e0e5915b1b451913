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

// times returns the PTS of a track's pictures, and of its key frames.
func times(packets []*media.Packet, track uint8) (all, keys []time.Duration) {
	for _, p := range packets {
		if p.Track == track {
			all = append(all, p.PTS)
			if p.Key {
				keys = append(keys, p.PTS)
			}
		}
	}
	return all, keys
}

// A destination gets several renditions as layers of one picture. A key frame that is asked of one is made in that one alone, after
// which they are in step again; what the path carries is divided, and the larger layer pauses rather than harm the smaller.
func TestLayers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		m := &mic{}
		r := start(t, func(r *rig) {
			withLow(r)
			r.spec.Audio = m.audio()
			r.spec.Renditions[0].Encoder.Params.Codec = media.H264
			r.spec.Uplinks[0].Layers = []string{"low"}
		}, a, b)
		take := func() []*media.Packet {
			a.mu.Lock()
			defer a.mu.Unlock()
			list := a.packets
			a.packets = nil
			return list
		}
		sleep(time.Second)
		take()
		var rids []string
		for _, track := range a.tracks {
			rids = append(rids, track.RID)
		}
		if runs, _ := a.count(); !slices.Equal(rids, []string{MainLayer, "low", ""}) || !a.tracks[2].Codec.Audio() || runs != 1 {
			t.Fatalf("tracks %+v in %d connections", a.tracks, runs)
		}
		sleep(4 * time.Second)
		got := take()
		high, highKeys := times(got, 0)
		low, lowKeys := times(got, 1)
		if sound, _ := times(got, 2); len(sound) < 100 || !slices.Equal(high, low) || len(high) < 90 || !slices.Equal(highKeys, lowKeys) || len(highKeys) < 2 {
			t.Errorf("%d and %d pictures, key frames %v and %v", len(high), len(low), highKeys, lowKeys)
		}

		a.feedback(media.Feedback{KeyFrame: true, Tracks: 0b10})
		sleep(300 * time.Millisecond)
		got = take()
		_, highKeys = times(got, 0)
		if _, lowKeys = times(got, 1); len(lowKeys) != 1 || len(highKeys) > 1 || slices.Equal(highKeys, lowKeys) {
			t.Errorf("key frames %v and %v, asked of the second", highKeys, lowKeys)
		}
		sleep(2100 * time.Millisecond)
		take()
		sleep(4 * time.Second)
		got = take()
		_, highKeys = times(got, 0)
		if _, lowKeys = times(got, 1); !slices.Equal(highKeys, lowKeys) || len(highKeys) != 2 {
			t.Errorf("key frames %v and %v: not in step again", highKeys, lowKeys)
		}

		a.feedback(media.Feedback{Bitrate: 1_500_000})
		sleep(100 * time.Millisecond)
		st := r.Status()
		sum := st.Encoder.Target + st.Renditions[0].Target
		if st.Renditions[0].Target < 490_000 || sum > 1_425_000 || sum < 1_250_000 {
			t.Errorf("targets %d and %d", st.Encoder.Target, st.Renditions[0].Target)
		}
		a.feedback(media.Feedback{Bitrate: 250_000})
		sleep(500 * time.Millisecond)
		take()
		sleep(time.Second)
		got = take()
		high, _ = times(got, 0)
		if low, _ = times(got, 1); len(high) != 0 || len(low) < 20 {
			t.Errorf("%d large and %d small pictures on a narrow path", len(high), len(low))
		}
		if up := r.uplink("a"); !slices.Equal(up.Renditions, []string{"", "low"}) || !slices.Equal(up.Paused, []string{""}) {
			t.Errorf("%+v", up)
		}
		a.feedback(media.Feedback{Bitrate: 5_000_000})
		sleep(time.Second)
		got = take()
		high, highKeys = times(got, 0)
		if len(high) < 15 || len(highKeys) == 0 || highKeys[0] != high[0] {
			t.Errorf("%d large pictures, key frames %v", len(high), highKeys)
		}
		if other := b.got(); len(other) < 200 {
			t.Errorf("the other destination got %d pictures", len(other))
		}
	})
}
