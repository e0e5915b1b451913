package relay

import (
	"slices"
	"sync"
	"time"

	"gantry/media"
)

// keyFrameEvery is the shortest time between two requests for a key frame to one publisher, whatever the number of viewers.
const keyFrameEvery = 500 * time.Millisecond

// The cached group of pictures is given up beyond these bounds, until the next key frame.
const (
	maxCached      = 4096 // packets
	maxCachedBytes = 8 << 20
)

// A Stream is what one name stands for: at most one active publisher at a time, one timeline, any number of subscribers.
//
//	waiting ──first key frame of a publisher──▶ live ──publisher gone──▶ waiting ──Hold──▶ ended
type Stream struct {
	hub  *Hub
	name string

	mu       sync.Mutex
	ended    bool
	since    time.Time
	pubs     []*Publication
	active   *Publication
	subs     []*Subscription
	line     timeline
	gop      cache
	askedKey time.Duration // elapsed() of the last request
	expiry   *time.Timer   // ends the Stream; nil while somebody publishes
}

// timeline is where the Stream's media stands, for the next publisher to continue.
type timeline struct {
	tracks  []media.Track
	last    []time.Duration // newest PTS by track
	newest  time.Duration   // of all tracks
	arrived time.Duration   // elapsed() when newest was written
	begun   bool
}

// cache is the group of pictures that a new Subscription starts with.
type cache struct {
	packets []*media.Packet
	bytes   int
}

func newStream(h *Hub, name string) *Stream {
	return &Stream{hub: h, name: name, since: time.Now(), askedKey: -keyFrameEvery}
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
	pub := &Publication{stream: s, publisher: p, tracks: slices.Clone(p.Tracks), since: time.Now(), asked: -keyFrameEvery, done: make(chan struct{})}
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

func (s *Stream) subscribe() *Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.active == nil {
		return nil
	}
	sub := &Subscription{stream: s, tracks: slices.Clone(s.line.tracks), queue: media.NewQueue(s.hub.cfg.Queue, s.line.tracks)}
	sub.cached = slices.Clone(s.gop.packets)
	s.subs = append(s.subs, sub)
	return sub
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
	pub.stats[p.Track].count(p, now)
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
	s.line.last[track] = max(s.line.last[track], pts)
	if pts >= s.line.newest {
		s.line.newest, s.line.arrived = pts, now
	}
	s.gop.add(p, s.line.tracks[track].Codec.Video())
	needKey := false
	for _, sub := range s.subs {
		_, need := sub.queue.Push(p)
		needKey = needKey || need
	}
	if needKey {
		s.askKeyFrame(now)
	}
}

// takeOver makes pub the active publisher if it is its turn and p is a point to join at.
func (s *Stream) takeOver(pub *Publication, p *media.Packet, now time.Duration) bool {
	if a := s.active; a != nil {
		better := pub.publisher.Priority > a.publisher.Priority ||
			pub.publisher.Priority == a.publisher.Priority && slices.Index(s.pubs, pub) > slices.Index(s.pubs, a)
		if !better && now-a.heard < s.hub.cfg.Silence {
			return false
		}
	}
	hasVideo := slices.ContainsFunc(pub.tracks, func(t media.Track) bool { return t.Codec.Video() })
	if hasVideo && (!p.Key || !p.Start || !pub.tracks[p.Track].Codec.Video()) {
		pub.ask(media.Feedback{KeyFrame: true}, now)
		return false
	}
	old := s.active
	s.active = pub
	s.adopt(pub, p, now)
	s.gop = cache{}
	s.hub.log.Info("stream is live", "stream", s.name, "uplink", pub.publisher.Protocol, "remote", pub.publisher.Remote)
	if old != nil && old.publisher.Priority == pub.publisher.Priority {
		s.remove(old, ErrReplaced)
	}
	return true
}

// adopt maps pub's tracks and times onto the Stream's. When the codecs differ, present subscribers must come anew.
func (s *Stream) adopt(pub *Publication, p *media.Packet, now time.Duration) {
	if s.line.begun {
		// Continue where the last publisher stopped, plus the time that has passed since.
		pub.offset = s.line.newest + max(now-s.line.arrived, time.Millisecond) - p.PTS
	}
	mapped, ok := mapTracks(pub.tracks, s.line.tracks)
	if !ok {
		for _, sub := range s.subs {
			sub.queue.Close(ErrTracksChanged)
		}
		s.subs = nil
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
}

// mapTracks finds for each new track the old one that it continues.
func mapTracks(tracks, old []media.Track) ([]uint8, bool) {
	mapped := make([]uint8, len(tracks))
	taken := make([]bool, len(old))
	for i, t := range tracks {
		j := slices.IndexFunc(old, func(o media.Track) bool {
			return o.Codec == t.Codec && o.Packing == t.Packing && o.ClockRate == t.ClockRate && o.RID == t.RID
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
	s.pubs = slices.DeleteFunc(s.pubs, func(p *Publication) bool { return p == pub })
	if s.active == pub {
		s.active = nil
		s.gop = cache{}
		for _, standby := range s.pubs {
			standby.ask(media.Feedback{KeyFrame: true}, s.hub.elapsed())
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
	for _, pub := range slices.Clone(s.pubs) {
		s.remove(pub, err)
	}
	for _, sub := range s.subs {
		sub.queue.Close(err)
	}
	s.subs = nil
	s.hub.log.Info("stream ended", "stream", s.name)
}

// askKeyFrame asks the active publisher, at most once every keyFrameEvery.
func (s *Stream) askKeyFrame(now time.Duration) {
	if s.active != nil {
		s.active.ask(media.Feedback{KeyFrame: true}, now)
	}
}

func (c *cache) add(p *media.Packet, video bool) {
	if video && p.Key && p.Start {
		// Subscribers hold the old slice: begin a new one.
		c.packets, c.bytes = make([]*media.Packet, 0, max(64, len(c.packets))), 0
	} else if len(c.packets) == 0 {
		return
	}
	c.bytes += len(p.Data)
	if len(c.packets) == maxCached || c.bytes > maxCachedBytes {
		*c = cache{}
		return
	}
	c.packets = append(c.packets, p)
}
