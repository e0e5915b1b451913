package pipeline

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/media"
	"gantry/media/sei"
	"gantry/uplink"
)

const frame = 40 * time.Millisecond // the camera's interval

func sleep(d time.Duration) {
	time.Sleep(d) // in a bubble: nothing waits
	synctest.Wait()
}

func bubble(t *testing.T, fn func(t *testing.T)) { t.Helper(); synctest.Test(t, fn) }

func TestPicturesReachEveryDestination(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		r := start(t, nil, a, b)
		sleep(10 * time.Second)
		for _, p := range []*peer{a, b} {
			got := p.got()
			steady(t, got, frame, true)
			if len(got) < 245 || len(got) > 251 {
				t.Errorf("%s got %d packets in 10 s", p.name, len(got))
			}
			keys := 0
			for _, pkt := range got {
				if pkt.Key {
					keys++
				}
			}
			if keys < 5 || keys > 6 {
				t.Errorf("%d key frames with a GOP of 2 s", keys)
			}
		}
		st := r.Status()
		if !st.Video.Signal || st.Video.Lost+st.Video.Replaced+st.Video.Late+st.Video.Slates != 0 || st.Video.Rate < 24.5 || st.Video.Rate > 25.5 {
			t.Errorf("video %+v", st.Video)
		}
		if st.Encoder.Name != "chip" || st.Encoder.Target != 2_000_000 || st.Encoder.Opened != 1 || st.Encoder.Track.Width != 64 {
			t.Errorf("encoder %+v", st.Encoder)
		}
		if len(st.Uplinks) != 2 || st.Uplinks[1].State != Connected || st.Uplinks[1].Dropped != 0 || st.Uplinks[1].Reason != "" {
			t.Errorf("uplinks %+v", st.Uplinks)
		}
		if list := r.health.Conditions(); len(list) != 0 {
			t.Errorf("conditions %v", list)
		}
		before := r.Progress()
		sleep(time.Second)
		if r.Progress() < before+24 {
			t.Error("no progress")
		}
	})
}

func TestLostSignalShowsTheSlate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, nil, p)
		sleep(3 * time.Second)
		steady(t, p.got(), frame, true)

		r.camera.set(func(c *camera) { c.read = fmt.Errorf("the cable was pulled: %w", device.ErrNoSignal) })
		sleep(5 * time.Second)
		got := p.got()
		steady(t, got, 2*frame, false)
		if !got[0].Key {
			t.Error("the slate does not begin with a key frame")
		}
		st := r.Status()
		if st.Video.Signal || st.Video.Slates < 110 || !strings.Contains(st.Video.Reason, "cable was pulled") {
			t.Errorf("video %+v", st.Video)
		}
		if !slices.Equal(r.slates, []string{"64x36 No signal: the cable was pulled: no signal"}) {
			t.Errorf("slates %q", r.slates)
		}
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "no-signal" {
			t.Errorf("conditions %v", list)
		}

		asked := r.chip.keys(t)
		r.camera.set(func(c *camera) { c.read = nil })
		sleep(time.Second)
		steady(t, p.got(), slateAfter, false)
		if r.chip.keys(t) != asked+1 {
			t.Error("no key frame at the signal's return")
		}
		if st := r.Status(); !st.Video.Signal || st.Encoder.Opened != 1 || st.Uplinks[0].Connects != 1 || r.camera.opened != 1 {
			t.Errorf("after the return %+v, camera opened %d times", st, r.camera.opened)
		}
		if list := r.health.Conditions(); len(list) != 0 {
			t.Errorf("conditions %v", list)
		}
	})
}

// Each kind of trouble has a slate of its own, also while the source is still waiting for its first signal, and in the format
// that the configuration asks for.
func TestEveryKindOfTroubleHasItsSlate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, func(r *rig) { r.camera.read = fmt.Errorf("no cable: %w", device.ErrNoSignal); r.camera.tells = true }, p)
		sleep(3 * time.Second)
		got := p.got()
		steady(t, got, frame, true)
		if len(got) < 70 || string(got[0].Data) != "32x18" {
			t.Errorf("%d packets of the slate in the first 3 s", len(got))
		}
		want := []string{"32x18 No signal: no cable: no signal"}
		for _, c := range []struct {
			err   error
			title string
		}{
			{device.ErrNoLock, "Unstable signal"}, {device.ErrOutOfRange, "Unsupported signal"},
			{device.ErrEncrypted, "Protected content"}, {device.ErrNoSignal, "No signal"},
		} {
			r.camera.set(func(cam *camera) { cam.read = fmt.Errorf("input 1: %w", c.err) })
			want = append(want, "32x18 "+c.title+": input 1: "+c.err.Error())
			sleep(time.Second)
		}
		if !slices.Equal(r.slates, want) {
			t.Errorf("slates %q, want %q", r.slates, want)
		}
		steady(t, p.got(), frame, false)
		r.camera.set(func(c *camera) { c.read = nil })
		sleep(time.Second)
		if st := r.Status(); !st.Video.Signal || st.Uplinks[0].Connects != 1 || r.camera.opened != 1 {
			t.Errorf("after the signal came %+v, opened %d times", st, r.camera.opened)
		}
		got = p.got()
		steady(t, got, slateAfter, false)
		i := slices.IndexFunc(got, func(p *media.Packet) bool { return string(p.Data) == "64x36" })
		if i < 0 || !got[i].Key {
			t.Errorf("no key frame of the camera: packet %d", i)
		}
	})
}

func TestFailedSourceIsReopened(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, nil, p)
		sleep(2 * time.Second)
		r.camera.set(func(c *camera) {
			c.read = fmt.Errorf("%w: %w", errUnplugged, device.ErrGone)
			c.open = fmt.Errorf("open /dev/video9: %w", device.ErrNotFound)
		})
		sleep(20 * time.Second)
		if st := r.Status(); st.Video.Signal || st.Uplinks[0].Connects != 1 || st.Encoder.Opened != 1 {
			t.Errorf("without the camera %+v", st)
		}
		if last := r.slates[len(r.slates)-1]; last != "64x36 No input: open /dev/video9: no such device" {
			t.Errorf("slate %q", last)
		}
		r.camera.set(func(c *camera) { c.read, c.open = nil, nil })
		sleep(4 * time.Second)
		if st := r.Status(); !st.Video.Signal || st.Uplinks[0].Connects != 1 || r.camera.opened != 2 {
			t.Errorf("after the return %+v, opened %d times", st, r.camera.opened)
		}
		steady(t, p.got(), slateAfter+frame, true)
	})
}

func TestSourceThatHangsIsReopened(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, nil, p)
		sleep(2 * time.Second)
		r.camera.set(func(c *camera) { c.silent = true })
		sleep(sourceStuck + time.Second)
		if r.camera.opened < 2 {
			t.Error("not reopened")
		}
		if st := r.Status(); st.Video.Signal || st.Video.Reason == "" {
			t.Errorf("video %+v", st.Video)
		}
		r.camera.set(func(c *camera) { c.silent = false })
		sleep(3 * time.Second)
		if st := r.Status(); !st.Video.Signal {
			t.Errorf("video %+v", st.Video)
		}
		steady(t, p.got(), slateAfter+frame, true)
	})
}

func TestNoSourceAtBoot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, func(r *rig) { r.camera.open = device.ErrNotFound }, p)
		sleep(3 * time.Second)
		got := p.got()
		steady(t, got, frame, true)
		if len(got) < 45 || string(got[0].Data) != "32x18" {
			t.Errorf("%d packets of the slate", len(got))
		}
		r.camera.set(func(c *camera) { c.open = nil })
		sleep(4 * time.Second)
		got = p.got()
		steady(t, got, slateAfter, false)
		if last := got[len(got)-1]; string(last.Data) != "64x36" {
			t.Errorf("still %s", last.Data)
		}
		if st := r.Status(); st.Uplinks[0].Connects != 1 {
			t.Errorf("the destination was disturbed: %+v", st.Uplinks)
		}
	})
}

// A source that starts quickly shows no slate first, and needs one encoder only.
func TestNoSlateBeforeAQuickSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, nil, p)
		sleep(3 * time.Second)
		if st := r.Status(); st.Video.Slates != 0 || st.Encoder.Opened != 1 {
			t.Errorf("%+v", st)
		}
		if got := p.got(); len(got) == 0 || string(got[0].Data) != "64x36" {
			t.Error("not the camera's picture first")
		}
	})
}

func TestFormatChangeMeansANewEncoderAndAKeyFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, nil, p)
		sleep(time.Second)
		p.got()
		r.camera.set(func(c *camera) { c.read = device.ErrFormatChanged })
		synctest.Wait() // Read has said so
		r.camera.set(func(c *camera) { c.read = nil; c.format = yu12(96, 54, 50) })
		sleep(2 * time.Second)
		got := p.got()
		i := slices.IndexFunc(got, func(p *media.Packet) bool { return string(p.Data) == "96x54" })
		if i < 0 || !got[i].Key {
			t.Fatalf("no key frame in the new format, at %d", i)
		}
		steady(t, got, time.Second, false)
		if st := r.Status(); st.Encoder.Opened != 2 || st.Uplinks[0].Connects != 1 || st.Encoder.Track.Width != 96 {
			t.Errorf("%+v", st)
		}
	})
}

func TestFailedEncoderIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, nil, p)
		sleep(15 * time.Second)
		p.got()
		r.chip.set(func(c *chip) { c.fail = errCrashed })
		sleep(2 * time.Second)
		got := p.got()
		steady(t, got, encoderBackoff.Min+3*frame, false)
		if st := r.Status(); st.Encoder.Opened != 2 || st.Uplinks[0].Connects != 1 || !st.Video.Signal || r.camera.opened != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestStuckEncoderGivesWayToTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		spare := &chip{name: "spare", bytes: 8}
		r := start(t, func(r *rig) {
			r.chip.hang = true
			r.spec.Encoder.Backends = append(r.spec.Encoder.Backends, spare.backend())
		}, p)
		sleep(6 * time.Second)
		if st := r.Status(); st.Encoder.Name != "spare" || st.Uplinks[0].Connects != 1 {
			t.Errorf("%+v", st)
		}
		got := p.got()
		steady(t, got, frame, true)
		if len(got) < 50 {
			t.Errorf("%d packets", len(got))
		}
		if spare.live != 1 || r.chip.live != 0 {
			t.Errorf("open: %d and %d", r.chip.live, spare.live)
		}
	})
}

func TestSlowEncoder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, func(r *rig) { r.chip.slow = 100 * time.Millisecond }, p)
		sleep(10 * time.Second)
		list := r.health.Conditions()
		if len(list) != 1 || list[0].Code != "encoder-slow" || !regexp.MustCompile(`^it takes 2[01] of 5[0-2] pictures`).MatchString(list[0].Reason) {
			t.Errorf("conditions %v", list)
		}
		got := p.got()
		steady(t, got, 4*frame, true)
		if n := len(got); n < 90 || n > 100 {
			t.Errorf("%d packets", n)
		}
		r.chip.set(func(c *chip) { c.slow = 0 })
		sleep(5 * time.Second)
		if list := r.health.Conditions(); len(list) != 0 {
			t.Errorf("conditions %v", list)
		}
	})
}

func TestNoEncoder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, func(r *rig) { r.chip.open = encoder.ErrUnavailable }, p)
		sleep(5 * time.Second)
		st := r.Status()
		if st.Encoder.Name != "" || st.Encoder.Reason == "" || st.Uplinks[0].State != Waiting {
			t.Errorf("%+v", st)
		}
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "encoder-down" {
			t.Errorf("conditions %v", list)
		}
		r.chip.set(func(c *chip) { c.open = nil })
		sleep(10 * time.Second)
		if st := r.Status(); st.Uplinks[0].State != Connected || st.Encoder.Reason != "" {
			t.Errorf("%+v", st)
		}
	})
}

func TestLostUplinkHarmsOnlyItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		r := start(t, nil, a, b)
		sleep(2 * time.Second)
		a.got()
		b.got()
		a.cut <- errLine
		sleep(5 * time.Second)
		steady(t, b.got(), frame, false)
		steady(t, a.got(), frame, true)
		if runs, _ := b.count(); runs != 1 {
			t.Errorf("b ran %d times", runs)
		}
		st := r.Status()
		if st.Uplinks[0].Connects != 2 || st.Uplinks[0].Losses != 1 || st.Uplinks[0].State != Connected {
			t.Errorf("%+v", st.Uplinks[0])
		}
	})
}

func TestSlowUplinkHarmsOnlyItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		a.slow = true
		r := start(t, nil, a, b)
		sleep(10 * time.Second)
		got := b.got()
		steady(t, got, frame, true)
		if len(got) < 245 {
			t.Errorf("b got %d packets", len(got))
		}
		st := r.Status()
		if st.Uplinks[0].Dropped < 150 || st.Uplinks[1].Dropped != 0 {
			t.Errorf("dropped %d and %d", st.Uplinks[0].Dropped, st.Uplinks[1].Dropped)
		}
		if st.Encoder.Asked > 4 {
			t.Errorf("%d key frames because of it", st.Encoder.Asked)
		}
	})
}

// A destination that cannot be reached costs the others nothing, not even a key frame.
func TestUnreachableUplinkHarmsOnlyItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		a.err = errLine
		r := start(t, nil, a, b)
		sleep(20 * time.Second)
		steady(t, b.got(), frame, true)
		if runs, _ := a.count(); runs < 4 || runs > 8 {
			t.Errorf("tried %d times", runs)
		}
		if st := r.Status(); st.Encoder.Asked != 1 {
			t.Errorf("%d key frames asked for, want one: b's first", st.Encoder.Asked)
		}
	})
}

func TestRefusedUplink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newPeer("a")
		a.err = fmt.Errorf("wrong token: %w", uplink.ErrRefused)
		r := start(t, nil, a)
		sleep(60 * time.Second)
		if runs, _ := a.count(); runs < 2 || runs > 3 {
			t.Errorf("tried %d times in a minute", runs)
		}
		st := r.Status().Uplinks[0]
		if st.State != Waiting || st.Reason != "wrong token: refused" || st.Next.IsZero() {
			t.Errorf("%+v", st)
		}
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "uplink-refused" {
			t.Errorf("conditions %v", list)
		}
		a.mu.Lock()
		a.err = &uplink.RetryAfter{After: 5 * time.Second, Err: errors.New("full")}
		a.mu.Unlock()
		sleep(45 * time.Second)
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "uplink-down" || list[0].Reason != "full" {
			t.Errorf("conditions %v", list)
		}
	})
}

func TestKeyFrameOnDemandIsLimited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		r := start(t, func(r *rig) { r.spec.Encoder.Params.GOP = 0 }, a, b)
		sleep(2 * time.Second)
		a.got()
		for range 10 {
			a.feedback(media.Feedback{KeyFrame: true})
			b.feedback(media.Feedback{KeyFrame: true})
		}
		sleep(frame)
		if got := a.got(); len(got) == 0 || !got[0].Key {
			t.Error("no key frame within one picture")
		}
		a.feedback(media.Feedback{KeyFrame: true})
		sleep(2 * time.Second)
		keys := 0
		for i, p := range a.got() {
			if p.Key {
				keys++
				if at := time.Duration(i+1) * frame; at < keyLimit-frame {
					t.Errorf("the next key frame after %v", at)
				}
			}
		}
		if keys != 1 {
			t.Errorf("%d key frames for a second request", keys)
		}
		_ = r
	})
}

func TestBitrateFollowsTheNarrowestPath(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		r := start(t, nil, a, b)
		sleep(time.Second)
		a.feedback(media.Feedback{Bitrate: 1_500_000})
		b.feedback(media.Feedback{Bitrate: 1_000_000})
		sleep(2 * frame)
		if st := r.Status(); st.Encoder.Target != 950_000 {
			t.Errorf("target %d", st.Encoder.Target)
		}
		b.cut <- errLine // its opinion goes with it
		b.mu.Lock()
		b.err = errLine
		b.mu.Unlock()
		sleep(10 * time.Second)
		if st := r.Status(); st.Encoder.Target != 1_425_000 {
			t.Errorf("target %d", st.Encoder.Target)
		}
		r.chip.set(func(c *chip) {
			if len(c.opened) != 1 || len(c.applied) < 3 || len(c.applied) > 60 {
				t.Errorf("opened %d, applied %v", len(c.opened), c.applied)
			}
		})
	})
}

// An encoder that cannot change its bitrate is replaced, seldom, and no picture is lost.
func TestRestartForABitrate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newPeer("a")
		r := start(t, func(r *rig) { r.chip.restart = true }, a)
		sleep(3 * time.Second)
		a.got()
		for i := range 20 {
			a.feedback(media.Feedback{Bitrate: 1_900_000 - 50_000*i})
			sleep(5 * frame)
		}
		sleep(3 * time.Second)
		got := a.got()
		steady(t, got, frame, false)
		r.chip.set(func(c *chip) {
			if n := len(c.opened); n < 3 || n > 5 || c.opened[n-1].Bitrate != 902_500 || c.live != 1 {
				t.Errorf("opened %d, last for %d bit/s, %d open", n, c.opened[n-1].Bitrate, c.live)
			}
		})
	})
}

func TestApplyChangesOnlyWhatDiffers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newPeer("a"), newPeer("b"), newPeer("c")
		r := start(t, nil, a, b)
		sleep(2 * time.Second)
		a.got()

		spec := r.spec
		spec.Encoder.Params.Bitrate = 1_000_000
		spec.Uplinks = []Uplink{a.uplink(), c.uplink()}
		r.Apply(spec)
		sleep(time.Second)
		if runs, clean := b.count(); runs != 1 || clean != 1 {
			t.Errorf("b ran %d times, %d ended cleanly", runs, clean)
		}
		steady(t, a.got(), frame, false)
		steady(t, c.got(), frame, true)
		if st := r.Status(); st.Encoder.Opened != 1 || st.Encoder.Target != 1_000_000 || r.camera.opened != 1 || len(st.Uplinks) != 2 {
			t.Errorf("%+v", st)
		}

		other := newCamera()
		other.format = yu12(128, 72, 25)
		spec.Video = other.video()
		spec.Video.Key, spec.Video.Name = "other", "other"
		r.Apply(spec)
		sleep(2 * time.Second)
		got := a.got()
		steady(t, got, slateAfter+frame, false)
		if last := got[len(got)-1]; string(last.Data) != "128x72" {
			t.Errorf("picture %s", last.Data)
		}
		if runs, _ := a.count(); runs != 1 {
			t.Errorf("a ran %d times", runs)
		}

		spec.Encoder.Params.Codec = media.H265 // what was negotiated is no longer right
		r.Apply(spec)
		sleep(2 * time.Second)
		runs, clean := a.count()
		if runs != 2 || clean != 1 || a.tracks[0].Codec != media.H265 {
			t.Errorf("a ran %d times, %d ended cleanly, tracks %v", runs, clean, a.tracks)
		}
	})
}

func TestSoundBesideThePicture(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newPeer("a")
		m := &mic{}
		r := start(t, func(r *rig) { r.spec.Audio = m.audio() }, a)
		sleep(5 * time.Second)
		sound := func() (n int) {
			a.mu.Lock()
			defer a.mu.Unlock()
			for _, p := range a.packets {
				if p.Track == audioTrack {
					n++
				}
			}
			return n
		}
		if n := sound(); n < 240 || len(a.tracks) != 2 || a.tracks[1].Codec != media.Opus {
			t.Errorf("%d packets of sound, tracks %v", n, a.tracks)
		}
		steady(t, a.got(), frame, true)
		a.feedback(media.Feedback{Bitrate: 1_000_000})
		sleep(frame)
		if st := r.Status(); st.Encoder.Target != 850_000 {
			t.Errorf("target %d: the sound has its share", st.Encoder.Target)
		}

		m.mu.Lock()
		m.err = errUnplugged
		m.mu.Unlock()
		sleep(5 * time.Second)
		if st := r.Status(); st.Audio.Reason != "unplugged" || !st.Video.Signal {
			t.Errorf("%+v", st)
		}
		a.got()
		m.mu.Lock()
		m.err = nil
		m.mu.Unlock()
		sleep(5 * time.Second)
		if n := sound(); n < 100 {
			t.Errorf("%d packets after the return", n)
		}
		if st := r.Status(); st.Audio.Reason != "" || st.Uplinks[0].Connects != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Pictures that the encoder has no time for are replaced by newer ones, and go back to their source.
func TestNewestWins(t *testing.T) {
	pool := media.NewPool(yu12(32, 18, 25), 3)
	s := newSlot()
	for i := range uint32(3) {
		f := pool.Get()
		f.Seq = i
		s.put(f, i == 1) // a cut before a picture that is replaced is one before the next
	}
	f, cut, err := s.take(t.Context())
	if err != nil || !cut || f.Seq != 2 || s.dropped() != 2 {
		t.Fatalf("got %v, cut %v, %v, dropped %d", f.Seq, cut, err, s.dropped())
	}
	f.Release()
	s.put(pool.Get(), false)
	if f, cut, _ = s.take(t.Context()); cut {
		t.Error("one cut told twice")
	}
	f.Release()
	s.put(pool.Get(), false)
	s.clear()
	if media.OutstandingFrames() != 0 {
		t.Error("frames outstanding")
	}
}

// Each picture says when it was captured, from the next on that it is asked for.
func TestTimecode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer("a")
		r := start(t, func(r *rig) { r.chip.slice = true }, p)
		sleep(time.Second)
		for _, packet := range p.got() {
			if at, ok := sei.UTCOf(media.H264, packet.Data); ok {
				t.Fatalf("%v, unasked", at)
			}
		}
		r.spec.Encoder.Timecode = sei.UTC
		r.Apply(r.spec)
		sleep(time.Second)
		got := p.got()
		if len(got) < 20 {
			t.Fatalf("%d packets", len(got))
		}
		for _, packet := range got[1:] {
			at, ok := sei.UTCOf(media.H264, packet.Data)
			if off := at.Sub(clock.Wall(packet.PTS)); !ok || off > 0 || off <= -time.Millisecond {
				t.Errorf("picture of %v says %v, %v", clock.Wall(packet.PTS), at, ok)
			}
		}
		if st := r.Status(); st.Encoder.Opened != 1 || st.Uplinks[0].Connects != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestCleanStopSaysGoodbye(t *testing.T) {
	var a *peer
	bubble(t, func(t *testing.T) {
		a = newPeer("a")
		start(t, nil, a)
		sleep(2 * time.Second)
	})
	if runs, clean := a.count(); runs != 1 || clean != 1 {
		t.Errorf("%d runs, %d ended cleanly", runs, clean)
	}
}
