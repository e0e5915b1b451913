package pipeline

import (
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/media"
	"gantry/uplink"
)

// A Status is what a Session does at one moment.
type Status struct {
	Video   VideoStatus
	Audio   AudioStatus
	Encoder EncoderStatus
	// Renditions are the further encodes; the RID of each one's Track is its name.
	Renditions []EncoderStatus
	Uplinks    []UplinkStatus
}

// VideoStatus is the input for pictures.
type VideoStatus struct {
	Name     string
	Signal   bool              // pictures of the source go out, not the slate
	Reason   string            // why there is no picture
	Format   media.VideoFormat // of the last picture
	Rate     float64           // pictures a second, measured
	Frames   uint64            // from the source
	Slates   uint64            // pictures of the slate
	Lost     uint64            // missing in the source's own count
	Replaced uint64            // newer ones came before the encoder took them
	Late     uint64            // with a PTS that had passed
	Codec    media.Codec       // of a source that comes coded
	BFrames  bool              // which it has
	Decoding bool              // because somebody needs pictures
}

// AudioStatus is the input for sound with its encoder.
type AudioStatus struct {
	Name    string // empty: there is no sound
	Format  media.AudioFormat
	Codecs  []media.Codec // as which it is coded now: what destinations have chosen
	Bitrate float64       // bit/s of them together, measured
	Packets uint64
	Reason  string // why there is none
	Levels  Levels
	Clock   device.SoundStats // of the source
	Passed  bool              // it is what the source for pictures brings: nothing is measured but its bitrate
}

// EncoderStatus is the encoder for pictures.
type EncoderStatus struct {
	Rendition string      // empty: the main encode
	Name      string      // of the back end; empty: none is open
	Track     media.Track // what it makes
	Target    int         // bit/s that it is asked for now
	Ceiling   int         // bit/s that the configuration allows
	Bitrate   float64     // bit/s, measured
	Rate      float64     // pictures a second, measured
	// Took is how long a picture is in the encoder, on average: near to 1/Rate it can do no more, unless it works on several at once.
	Took      time.Duration
	Frames    uint64
	Bytes     uint64
	KeyFrames uint64
	Asked     uint64 // key frames because a destination asked
	Opened    uint64 // encoders so far
	InPlace   uint64 // pictures that encoders read where they lay, where they tell
	Copied    uint64 // pictures that were copied or converted for them
	Reason    string // why there is none
}

// UplinkStatus is one destination.
type UplinkStatus struct {
	Name     string
	State    State
	Since    time.Time
	Reason   string    // why the last connection ended
	Next     time.Time // when the next try is due; zero: none is
	Carries  int       // bit/s that the path is said to carry; 0: not known
	Connects uint64
	Losses   uint64
	Dropped  uint64 // packets that waited too long
	BackupOf string
	// Renditions are what it gets, of which Paused are those that its path has no room for now; "" is the main encode.
	Renditions, Paused []string
	Codecs             []media.Codec // of its tracks, while it is connecting or connected
	Pictures           string        // where the source comes coded: "passed through", or "re-encoded: " and why
	Bitrate            float64       // bit/s that left, measured; 0 where the Sender does not report
	Sent               uplink.Stats  // what the Sender reports
}

// Status returns what the Session does now.
func (s *Session) Status() Status {
	now := clock.Now()
	st := Status{Video: s.capture.status(now), Audio: s.audio.status(now), Encoder: s.encode.status(now, s.feedback), Uplinks: s.uplinks.status()}
	if sound, _ := s.audio.setting.get(); sound.Coded {
		st.Audio = s.pass.sound(st.Video.Name, now)
	}
	for _, e := range s.renditions.all() {
		st.Renditions = append(st.Renditions, e.status(now, s.feedback))
	}
	return st
}

func (c *capture) status(now time.Duration) VideoStatus {
	frames, _, rate, _ := c.frames.read(now)
	coded := c.pass.status()
	c.mu.Lock()
	defer c.mu.Unlock()
	st := VideoStatus{Codec: coded.codec, BFrames: coded.reordered, Decoding: coded.decoding,
		Name: c.source.Name, Signal: c.reason == nil && frames > 0, Format: c.format, Rate: rate, Frames: frames,
		Slates: c.count.slate, Lost: c.count.lost, Late: c.count.late, Replaced: c.split.main().dropped()}
	if c.reason != nil {
		st.Reason = c.reason.Error()
	}
	return st
}

func (a *audio) status(now time.Duration) AudioStatus {
	packets, _, _, bps := a.out.read(now)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.source.Open == nil {
		return AudioStatus{}
	}
	st := AudioStatus{Name: a.source.Name, Format: a.format, Codecs: a.codecs, Bitrate: bps, Packets: packets,
		Levels: a.levels}
	if a.reporter != nil {
		st.Clock = a.reporter.SoundStats()
	}
	if a.err != nil {
		st.Reason = a.err.Error()
	}
	return st
}

func (e *encode) status(now time.Duration, b *feedback) EncoderStatus {
	want, _ := e.setting.get()
	frames, bytes, rate, bps := e.out.read(now)
	b.mu.Lock()
	asked := b.asked
	b.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	st := EncoderStatus{Rendition: e.rid, Target: e.now.target, Ceiling: want.Params.Bitrate, Bitrate: bps, Rate: rate, Frames: frames, Bytes: bytes,
		KeyFrames: e.now.keys, Asked: asked, Opened: e.now.opened, InPlace: e.now.inPlace, Copied: e.now.copied}
	if _, _, n, bits := e.took.read(now); n > 0 {
		st.Took = time.Duration(bits / 8 / n * float64(time.Microsecond))
	}
	if c := e.now.current; c != nil {
		inPlace, copied := c.copies()
		st.InPlace, st.Copied = st.InPlace+inPlace, st.Copied+copied
		st.Name, st.Track = c.name, c.enc.Track()
		st.Track.RID = e.rid
	}
	if e.now.err != nil {
		st.Reason = e.now.err.Error()
	}
	return st
}

func (u *uplinks) status() []UplinkStatus {
	u.mu.Lock()
	links := u.links
	u.mu.Unlock()
	drops := u.fanout.drops()
	list := []UplinkStatus{}
	for _, l := range links {
		carries, paused := u.feedback.of(l.spec.Name)
		l.mu.Lock()
		st := UplinkStatus{Name: l.spec.Name, State: l.state, Since: l.since, Next: l.next, Carries: carries, Paused: paused,
			Renditions: append([]string{l.spec.Rendition}, l.spec.Layers...), Connects: l.connects, Losses: l.losses, Dropped: drops[l.spec.Name], BackupOf: l.spec.BackupOf, Codecs: l.codecs,
			Pictures: u.tracks.way(l.spec.Name)}
		_, _, _, st.Bitrate = l.out.read(clock.Now())
		if l.reporter != nil {
			st.Sent = l.reporter.Stats()
		}
		if l.err != nil {
			st.Reason = l.err.Error()
		}
		l.mu.Unlock()
		list = append(list, st)
	}
	return list
}
