package relay

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"gantry/media"
)

// keyFrameEvery is the shortest time between two requests for a key frame to one publisher, whatever the number of viewers.
const keyFrameEvery = 500 * time.Millisecond

// damageHeals is how long a publisher of whose pictures many came damaged is second to one that came whole.
const damageHeals = 10 * time.Second

// A Stream is what one name stands for: at most one active publisher at a time, one timeline, any number of subscribers.
//
//	waiting ──first key frame of a publisher──▶ live ──publisher gone──▶ waiting ──Hold──▶ ended
type Stream struct {
	hub  *Hub
	name string

	mu      sync.Mutex
	ended   bool
	since   time.Time
	pubs    []*Publication
	active  *Publication
	chosen  *Publication // by the API; nil: the best is forwarded
	line    timeline
	gop     cache          // as published
	forms   map[Want]*form // made for the first subscriber that wants it, gone with the last
	expiry  *time.Timer    // ends the Stream; nil while somebody publishes
	offline offline
}

// timeline is where the Stream's media stands, for the next publisher to continue.
type timeline struct {
	tracks  []media.Track
	last    []time.Duration // newest PTS by track
	newest  time.Duration   // of all tracks
	arrived time.Duration   // elapsed() when newest was written
	begun   bool
	origins []origin // whose the media is, oldest first: subscribers may have some of earlier publishers still to read
}

// keptOrigins is how many publishers back the media of a slow subscriber may be.
const keptOrigins = 4

// An origin is a publisher of a part of the timeline: of what comes after these PTS, by track.
type origin struct {
	pub   *Publication
	after []time.Duration
}

// origin returns who published the media of a track at pts; nil before the first publisher.
func (l *timeline) origin(track uint8, pts time.Duration) *Publication {
	for i, o := range slices.Backward(l.origins) {
		if i == 0 || int(track) < len(o.after) && pts > o.after[track] {
			return o.pub
		}
	}
	return nil
}

func newStream(h *Hub, name string) *Stream {
	return &Stream{hub: h, name: name, since: time.Now(), forms: map[Want]*form{}}
}

// publish adds a Publication, or returns nil when the Stream has ended.
func (s *Stream) publish(p Publisher) *Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	pub := &Publication{stream: s, publisher: p, tracks: slices.Clone(p.Tracks), since: time.Now(), done: make(chan struct{}),
		rank: rank{id: rand.Text()[:8], priority: p.Priority, damaged: -damageHeals}}
	pub.asked = slices.Repeat([]time.Duration{-keyFrameEvery}, len(p.Tracks))
	pub.stats = make([]counter, len(p.Tracks))
	s.pubs = append(s.pubs, pub)
	s.hub.log.Info("publisher joined", "stream", s.name, "uplink", p.Protocol, "remote", p.Remote)
	return pub
}

func (s *Stream) liveTracks() []media.Track {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.active == nil {
		return nil
	}
	return slices.Clone(s.line.tracks)
}

// subscribe returns ErrNoStream when there is nothing to see, or why no track can be packed as wanted.
func (s *Stream) subscribe(want Want) (*Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.visible(want) {
		return nil, ErrNoStream
	}
	f := s.forms[want]
	if f == nil {
		f = newForm(s.line.tracks, want, s.hub.transcode)
		if f == nil {
			return nil, ErrPacking
		}
		for _, p := range s.gop.packets {
			f.write(p)
		}
		s.forms[want] = f
	}
	return f.subscribe(s), nil
}

// visible tells whether subscribers who want that see something that goes on: a publisher's pictures, or the slate.
func (s *Stream) visible(want Want) bool {
	return !s.ended && (s.active != nil || s.offline.shown && s.offline.whole && !want.NoSlate)
}

// write takes a packet from pub and forwards it when pub is, or now becomes, the active publisher.
func (s *Stream) write(pub *Publication, p *media.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || pub.err != nil || int(p.Track) >= len(pub.tracks) {
		return
	}
	now := s.hub.elapsed()
	pub.heard = now
	if pub.stats[p.Track].count(p, now) {
		pub.damaged = now
	}
	if pub != s.active && !s.takeOver(pub, p, now) {
		return
	}
	track := pub.mapped[p.Track]
	pts := p.PTS + pub.offset
	if p.Start && pts < s.line.last[track] && pub.tracks[p.Track].Codec.Audio() {
		return // sound that the last publisher has already covered
	}
	if track != p.Track || pub.offset != 0 {
		moved := *p
		moved.Track, moved.PTS, moved.DTS = track, pts, p.DTS+pub.offset
		p = &moved
	}
	s.forward(p, now, false)
}

// forward hands a packet on, of a slate or of what is published, that is mapped onto the Stream's tracks and times.
func (s *Stream) forward(p *media.Packet, now time.Duration, slate bool) {
	s.line.last[p.Track] = max(s.line.last[p.Track], p.PTS)
	if p.PTS >= s.line.newest {
		s.line.newest, s.line.arrived = p.PTS, now
	}
	s.gop.add(p, s.line.tracks[p.Track].Codec.Video())
	for _, f := range s.forms {
		if slate && f.want.NoSlate {
			continue
		}
		if tracks := f.write(p); tracks != 0 {
			s.askKeyFrame(tracks, now)
		}
	}
}

// takeOver makes pub the active publisher if it is its turn and p is a point to join at.
func (s *Stream) takeOver(pub *Publication, p *media.Packet, now time.Duration) bool {
	if a := s.active; a != nil && now-a.heard < s.hub.cfg.Silence && !s.better(pub, a, now) {
		return false
	}
	hasVideo := slices.ContainsFunc(pub.tracks, func(t media.Track) bool { return t.Codec.Video() })
	if hasVideo && (!p.Key || !p.Start || !pub.tracks[p.Track].Codec.Video()) {
		pub.ask(0, now)
		return false
	}
	old := s.active
	s.active = pub
	s.adopt(pub, p, now)
	s.gop = cache{}
	s.offline.turn, s.offline.shown = 0, false
	s.offline.arm(s)
	s.hub.log.Info("stream is live", "stream", s.name, "uplink", pub.publisher.Protocol, "remote", pub.publisher.Remote)
	if old != nil && old.priority == pub.priority && !old.ruled && !pub.ruled && s.chosen == nil && s.newer(pub, old) {
		s.remove(old, ErrReplaced)
	}
	return true
}

// better tells whether a is to be forwarded rather than b, which is: chosen by the API, not damaged, of higher priority, newer.
func (s *Stream) better(a, b *Publication, now time.Duration) bool {
	if (a == s.chosen) != (b == s.chosen) {
		return a == s.chosen
	}
	if x, y := now-a.damaged < damageHeals, now-b.damaged < damageHeals; x != y {
		return y
	}
	if a.priority != b.priority {
		return a.priority > b.priority
	}
	return s.newer(a, b)
}

func (s *Stream) newer(a, b *Publication) bool {
	return slices.Index(s.pubs, a) > slices.Index(s.pubs, b)
}

// find returns the publisher that the API calls id, or ErrNoPublisher.
func (s *Stream) find(id string) (*Publication, error) {
	for _, p := range s.pubs {
		if p.id == id {
			return p, nil
		}
	}
	return nil, ErrNoPublisher
}

func (s *Stream) setPriority(id string, priority int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.find(id)
	if err != nil {
		return err
	}
	p.priority, p.ruled = priority, true
	s.hub.log.Info("publisher has another priority", "stream", s.name, "uplink", p.publisher.Protocol, "remote", p.publisher.Remote, "priority", priority)
	return nil
}

func (s *Stream) choose(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == "" {
		s.chosen = nil
		return nil
	}
	p, err := s.find(id)
	if err != nil {
		return err
	}
	s.chosen = p
	if p != s.active {
		p.ask(0, s.hub.elapsed())
	}
	s.hub.log.Info("publisher was chosen", "stream", s.name, "uplink", p.publisher.Protocol, "remote", p.publisher.Remote)
	return nil
}

// adopt maps pub's tracks and times onto the Stream's. When the codecs differ, present subscribers must come anew.
func (s *Stream) adopt(pub *Publication, p *media.Packet, now time.Duration) {
	if s.line.begun {
		// Continue where the last publisher stopped, plus the time that has passed since.
		pub.offset = s.line.newest + max(now-s.line.arrived, time.Millisecond) - p.PTS
	}
	mapped, ok := mapTracks(pub.tracks, s.line.tracks)
	if !ok {
		s.closeForms(ErrTracksChanged)
		s.line.tracks = slices.Clone(pub.tracks)
		s.line.last = make([]time.Duration, len(pub.tracks))
		for i := range s.line.last {
			s.line.last[i] = s.line.newest
		}
		mapped = make([]uint8, len(pub.tracks))
		for i := range mapped {
			mapped[i] = uint8(i)
		}
	}
	for i, t := range pub.tracks {
		s.line.tracks[mapped[i]] = t
	}
	pub.mapped = mapped
	s.line.begun = true
	s.line.origins = append(s.line.origins[max(0, len(s.line.origins)+1-keptOrigins):], origin{pub, slices.Clone(s.line.last)})
	for _, f := range s.forms {
		f.restart(s.line.tracks)
	}
}

// mapTracks finds for each new track the old one that it continues.
func mapTracks(tracks, old []media.Track) ([]uint8, bool) {
	mapped := make([]uint8, len(tracks))
	taken := make([]bool, len(old))
	for i, t := range tracks {
		j := slices.IndexFunc(old, func(o media.Track) bool {
			return o.Codec == t.Codec && o.ClockRate == t.ClockRate && o.RID == t.RID
		})
		for j >= 0 && j < len(old) && taken[j] {
			j++
		}
		if j < 0 || j == len(old) || old[j].Codec != t.Codec || old[j].RID != t.RID {
			return nil, false
		}
		taken[j] = true
		mapped[i] = uint8(j)
	}
	return mapped, true
}

// remove takes pub out; err is what its ingest server reads from Err.
func (s *Stream) remove(pub *Publication, err error) {
	if pub.err != nil {
		return
	}
	pub.err = err
	close(pub.done)
	pub.publisher.Feedback = nil // an origin outlives what served the publisher
	s.pubs = slices.DeleteFunc(s.pubs, func(p *Publication) bool { return p == pub })
	if s.chosen == pub {
		s.chosen = nil
	}
	if s.active == pub {
		s.active = nil
		s.gop = cache{}
		for _, standby := range s.pubs {
			standby.ask(0, s.hub.elapsed())
		}
	}
	if len(s.pubs) == 0 && !s.ended {
		s.expiry = time.AfterFunc(s.hub.cfg.Hold, func() { s.expire() })
	}
	s.hub.log.Info("publisher left", "stream", s.name, "uplink", pub.publisher.Protocol, "remote", pub.publisher.Remote, "reason", err)
}

func (s *Stream) expire() {
	s.mu.Lock()
	if len(s.pubs) == 0 {
		s.endLocked(ErrEnded)
	}
	ended := s.ended
	s.mu.Unlock()
	if ended {
		s.hub.forget(s)
	}
}

// end closes everything that hangs on the Stream.
func (s *Stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
}

func (s *Stream) endLocked(err error) {
	if s.ended {
		return
	}
	s.ended = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.offline.stop()
	for _, pub := range slices.Clone(s.pubs) {
		s.remove(pub, err)
	}
	s.closeForms(err)
	s.hub.log.Info("stream ended", "stream", s.name)
}

// closeForms ends all Subscriptions.
func (s *Stream) closeForms(err error) {
	for _, f := range s.forms {
		f.close(err)
	}
	clear(s.forms)
}

// askKeyFrame asks the active publisher for a key frame of the Stream's tracks in the bit set, 0 for all video.
func (s *Stream) askKeyFrame(tracks uint64, now time.Duration) {
	if s.active == nil {
		return
	}
	var own uint64
	for i, j := range s.active.mapped {
		if tracks&(1<<j) != 0 {
			own |= 1 << i
		}
	}
	if own != 0 || tracks == 0 {
		s.active.ask(own, now)
	}
}
