package pipeline

import (
	"context"
	"log/slog"
	"time"

	"gantry/internal/health"
	"gantry/internal/supervise"
	"gantry/media"
)

// How long a stage may take to stop.
const (
	captureStop = 2 * time.Second
	audioStop   = time.Second
	encodeStop  = 3 * time.Second
	uplinksStop = 5 * time.Second // goodbyes go over networks
)

// A Session is the running pipeline of a box.
type Session struct {
	log      *slog.Logger
	split    *splitter
	feedback *feedback
	fanout   *fanout
	tracks   *tracks
	capture  *capture
	audio    *audio
	encode   *encode
	uplinks  *uplinks

	renditions *renditions
	pass       *passing
	standIn    *encode // of the slate, where the source's own packets go out
}

// New returns a Session that works by spec once Run is called. Conditions go to set.
func New(spec Spec, slate Slate, set *health.Set, log *slog.Logger) *Session {
	s := &Session{log: log, feedback: newFeedback(), tracks: newTracks()}
	s.split = newSplitter(s.feedback)
	s.fanout = newFanout(s.feedback)
	s.pass = &passing{log: log, health: set, fanout: s.fanout, tracks: s.tracks, slot: newSlot(), standIn: newSetting(Encoder{}), quiet: map[media.Codec]quiet{}}
	s.capture = &capture{log: log, health: set, setting: newSetting(spec.Video), split: s.split, slate: slate, wake: make(chan struct{}, 1),
		pass: s.pass, tracks: s.tracks}
	s.audio = &audio{log: log, health: set, setting: newSetting(spec.Audio), fanout: s.fanout, tracks: s.tracks}
	s.tracks.audio = spec.Audio.tracks() // before the first destination asks
	encoder := func(rid string, spec Encoder, from *slot) *encode {
		log := log
		if rid != "" {
			log = log.With("rendition", rid)
		}
		return &encode{log: log, health: set, setting: newSetting(spec), rid: rid, slot: from, split: s.split,
			fanout: s.fanout, tracks: s.tracks}
	}
	s.encode = encoder("", spec.Encoder, s.split.main())
	s.standIn = encoder(sourceRID, Encoder{}, s.pass.slot)
	s.standIn.setting, s.standIn.emit = s.pass.standIn, s.pass.stood
	s.feedback.level, s.feedback.reserved = s.level, s.audio.bitrate
	s.split.gop = func() time.Duration { want, _ := s.encode.setting.get(); return want.Params.GOP }
	s.renditions = &renditions{setting: newSetting(spec.Renditions), split: s.split, tracks: s.tracks, encode: encoder}
	s.uplinks = &uplinks{log: log, health: set, setting: newSetting(spec.Uplinks), feedback: s.feedback, fanout: s.fanout, tracks: s.tracks,
		orders: map[string]bool{}, pass: s.pass, ceiling: func() int { return s.level("").ceiling }}
	return s
}

// Run works until ctx ends, then stops along the signal path and returns after the last goroutine. What fails meanwhile is
// retried; an error means that a stage could not be stopped. Stopping takes 14 s at the most.
func (s *Session) Run(ctx context.Context) error {
	defer s.split.clear()
	defer s.pass.slot.clear()
	g := supervise.NewGroup(s.log)
	g.Add("capture", captureStop, s.capture.run)
	g.Add("audio", audioStop, s.audio.run)
	g.Add("encoder", encodeStop, s.encode.run)
	g.Add("renditions", encodeStop, s.renditions.run)
	g.Add("slate encoder", encodeStop, s.standIn.run)
	g.Add("uplinks", uplinksStop, s.uplinks.run)
	return g.Run(ctx)
}

// Apply changes what the Session works with, while it runs. Parts whose Key is the same go on undisturbed; a bitrate or GOP
// changes in the running encoder. The caller has validated everything.
func (s *Session) Apply(spec Spec) {
	if old, _ := s.capture.setting.get(); old.Key != spec.Video.Key {
		s.capture.setting.set(spec.Video)
	}
	if old, _ := s.audio.setting.get(); old.Key != spec.Audio.Key {
		s.audio.setting.set(spec.Audio)
	}
	s.encode.setting.set(spec.Encoder)
	s.renditions.apply(spec.Renditions)
	s.uplinks.setting.set(spec.Uplinks)
}

// level returns what a rendition's encoder may use.
func (s *Session) level(rendition string) level {
	from := []*encode{s.encode}
	if rendition != "" {
		from = s.renditions.all()
	}
	for _, e := range from {
		if e.rid == rendition {
			want, _ := e.setting.get()
			return level{want.Floor, want.Params.Bitrate}
		}
	}
	return level{}
}

// Progress rises for as long as the Session does its work: with each picture that reaches the encoder, and with each attempt
// to get one going that fails with an error. It stands still when something hangs.
func (s *Session) Progress() uint64 {
	passed := s.pass.status().packets
	s.encode.mu.Lock()
	defer s.encode.mu.Unlock()
	return s.encode.now.progress + passed
}

// KeyFrame asks for a key frame as a destination would.
func (s *Session) KeyFrame() { s.feedback.put("", media.Feedback{KeyFrame: true}) }
