package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gantry/media"
	"gantry/uplink"
)

func (r *rig) uplink(name string) UplinkStatus {
	r.t.Helper()
	for _, u := range r.Status().Uplinks {
		if u.Name == name {
			return u
		}
	}
	r.t.Fatalf("no %s", name)
	return UplinkStatus{}
}

func (m *mic) encoders(c media.Codec) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[c]
}

// sounds returns what the packets of sound say that they are, each once.
func (p *peer) sounds() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pkt := range p.packets {
		if s := string(pkt.Data); pkt.Track == audioTrack && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	p.packets = nil
	return list
}

// Each destination gets the sound that it can carry, which is coded only for as long as one wants it.
func TestSoundAsEachDestinationTakesIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		web, tv, mute := newPeer("web"), newPeer("tv"), newPeer("mute")
		m := &mic{}
		r := start(t, func(r *rig) {
			r.spec.Audio = m.audio()
			r.spec.Uplinks[0].Carries = []media.Codec{media.H264, media.Opus}
			r.spec.Uplinks[1].Carries = []media.Codec{media.H264, media.AAC, media.Opus}
			r.spec.Uplinks[1].Manual = true
			r.spec.Uplinks[2].Carries = []media.Codec{media.H264}
		}, web, tv, mute)
		sleep(3 * time.Second)
		if got := web.sounds(); !slices.Equal(got, []string{"opus"}) {
			t.Errorf("web got %v", got)
		}
		if got := mute.sounds(); got != nil || len(mute.tracks) != 1 {
			t.Errorf("mute got %v, %v", got, mute.tracks)
		}
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "uplink-silent" || list[0].Reason != "it takes H264, and there is sound as opus, AAC" {
			t.Errorf("%+v", list)
		}
		if m.encoders(media.AAC) != 0 || m.encoders(media.Opus) != 1 {
			t.Error("sound is coded for nobody")
		}
		if err := r.StartUplink("tv"); err != nil {
			t.Fatal(err)
		}
		sleep(3 * time.Second)
		if got := tv.sounds(); !slices.Equal(got, []string{"AAC"}) {
			t.Errorf("tv got %v", got)
		}
		if st := r.Status(); !slices.Equal(st.Audio.Codecs, []media.Codec{media.Opus, media.AAC}) || !slices.Equal(r.uplink("tv").Codecs, []media.Codec{media.H264, media.AAC}) {
			t.Errorf("%+v", st.Audio)
		}
		if err := r.StopUplink("tv"); err != nil {
			t.Fatal(err)
		}
		sleep(time.Second)
		if m.encoders(media.AAC) != 0 {
			t.Error("AAC is coded for nobody")
		}

		m.mu.Lock()
		m.fail[media.AAC] = errCrashed
		m.mu.Unlock()
		if err := r.StartUplink("tv"); err != nil {
			t.Fatal(err)
		}
		web.sounds()
		sleep(3 * time.Second)
		if got := web.sounds(); !slices.Equal(got, []string{"opus"}) {
			t.Errorf("one encoder's failure silenced the other: %v", got)
		}
		if list := r.health.Conditions(); len(list) != 2 || list[0].Subject != "mic as AAC" {
			t.Errorf("%+v", list)
		}
	})
}

func TestPicturesThatADestinationDoesNotTake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newPeer("a")
		r := start(t, func(r *rig) { r.spec.Uplinks[0].Carries = []media.Codec{media.H265, media.AAC} }, a)
		sleep(2 * time.Second)
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "uplink-refused" || list[0].Reason != "pictures are coded as H264, and it takes H265, AAC: refused" {
			t.Errorf("%+v", list)
		}
	})
}

func TestStartAndStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		r := start(t, nil, a, b)
		sleep(2 * time.Second)
		for range 2 { // again is the same
			if err := r.StopUplink("a"); err != nil {
				t.Fatal(err)
			}
			sleep(time.Second)
		}
		b.got()
		if st := r.uplink("a"); st.State != Stopped || st.Losses != 0 || len(r.health.Conditions()) != 0 {
			t.Errorf("%+v", st)
		}
		spec := r.spec // the order holds over a change of configuration
		spec.Uplinks = slices.Clone(spec.Uplinks)
		spec.Uplinks[0].Key = "another"
		r.Apply(spec)
		sleep(2 * time.Second)
		if runs, clean := a.count(); runs != 1 || clean != 1 {
			t.Errorf("a ran %d times, %d ended cleanly", runs, clean)
		}
		for range 2 {
			if err := r.StartUplink("a"); err != nil {
				t.Fatal(err)
			}
			sleep(time.Second)
		}
		if st := r.uplink("a"); st.State != Connected {
			t.Errorf("%+v", st)
		}
		if runs, _ := a.count(); runs != 2 {
			t.Errorf("a ran %d times", runs)
		}
		if runs, _ := b.count(); runs != 1 {
			t.Errorf("b ran %d times", runs)
		}
		steady(t, b.got(), frame, false)
		if err := r.StopUplink("c"); !errors.Is(err, ErrNoUplink) {
			t.Error(err)
		}
	})
}

// The backup runs while the destination is down, and no longer.
func TestBackup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newPeer("a"), newPeer("b")
		r := start(t, func(r *rig) { r.spec.Uplinks[1].BackupOf = "a" }, a, b)
		sleep(10 * time.Second)
		if st := r.uplink("b"); st.State != Standby || st.BackupOf != "a" {
			t.Errorf("%+v", st)
		}
		if runs, _ := b.count(); runs != 0 {
			t.Errorf("b ran %d times", runs)
		}

		fail := func(err error) { a.mu.Lock(); a.err = err; a.mu.Unlock() }
		fail(errLine)
		a.cut <- errLine
		sleep(takeOver - 100*time.Millisecond)
		if st := r.uplink("b"); st.State != Standby {
			t.Errorf("too early: %+v", st)
		}
		sleep(500 * time.Millisecond)
		if st := r.uplink("b"); st.State != Connected {
			t.Errorf("%v after the loss: %+v", takeOver+400*time.Millisecond, st)
		}
		sleep(60 * time.Second)
		steady(t, b.got(), frame, true)

		fail(nil)
		sleep(31 * time.Second) // the longest delay between tries
		var handed bool
		for range 200 {
			if handed = r.uplink("b").State == Standby; handed {
				break
			}
			sleep(100 * time.Millisecond)
		}
		if st := r.uplink("a"); !handed || st.State != Connected {
			t.Errorf("not handed back: a %+v", st)
		}
		if runs, clean := b.count(); runs != 1 || clean != 1 {
			t.Errorf("b ran %d times, %d ended cleanly", runs, clean)
		}
		if err := r.StopUplink("a"); err != nil { // a person's stop is no failure
			t.Fatal(err)
		}
		sleep(10 * time.Second)
		if runs, _ := b.count(); runs != 1 {
			t.Errorf("b ran %d times", runs)
		}
	})
}

// One destination that takes nothing, one that cannot be reached and one whose path carries little, beside a good one: that one
// gets each picture, no more key frames than the GOP asks for, and its bitrate.
func TestDestinationsDoNotTouchEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		good, slow, dead, narrow := newPeer("good"), newPeer("slow"), newPeer("dead"), newPeer("narrow")
		slow.slow, dead.err = true, errLine
		r := start(t, func(r *rig) { r.spec.Uplinks[3].Aside = true }, good, slow, dead, narrow)
		sleep(2 * time.Second)
		good.got()
		narrow.feedback(media.Feedback{Bitrate: 300_000})
		before := r.Status().Encoder.KeyFrames
		sleep(20 * time.Second)
		got := good.got()
		steady(t, got, frame, false)
		if len(got) < 495 || len(got) > 505 {
			t.Errorf("%d pictures in 20 s", len(got))
		}
		if keys := r.Status().Encoder.KeyFrames - before; keys > 10+4 {
			t.Errorf("%d key frames in 20 s with a GOP of 2 s", keys)
		}
		if st := r.Status(); st.Encoder.Target != 2_000_000 || r.uplink("narrow").Carries != 300_000 || r.uplink("slow").Dropped == 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A counter is a Sender that sends 1000 bytes each 10 ms, and says so.
type counter struct{ bytes atomic.Uint64 }

func (c *counter) Stats() uplink.Stats {
	return uplink.Stats{Bytes: c.bytes.Load(), RTT: 7 * time.Millisecond}
}
func (c *counter) Run(ctx context.Context, p uplink.Program) error {
	p.Connected()
	for ctx.Err() == nil {
		c.bytes.Add(1000)
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func TestSendersStatistics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, func(r *rig) {
			r.spec.Uplinks = []Uplink{{Name: "a", Open: func(*slog.Logger) (uplink.Sender, error) { return &counter{}, nil }}}
		})
		sleep(5 * time.Second)
		if st := r.uplink("a"); st.Sent.RTT != 7*time.Millisecond || st.Bitrate < 760_000 || st.Bitrate > 840_000 {
			t.Errorf("%+v", st)
		}
	})
}
