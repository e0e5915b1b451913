package relay

import (
	"time"

	"gantry/media"
	"gantry/media/packing"
)

// A Slate returns what subscribers see of a track while nobody publishes: access units that begin with a key frame each, and are
// shown in turn; nil where it has nothing for such a track.
type Slate func(media.Track) [][]byte

// Times of a slate.
const (
	slateAfter = 1500 * time.Millisecond // without a packet
	slateEvery = time.Second
)

// offline shows a Stream's slate while nothing is forwarded. It is guarded by the Stream's lock.
type offline struct {
	timer  *time.Timer // nil: not armed
	turn   int         // access units due since the publisher went
	shown  bool        // some track has had one
	whole  bool        // and no track of video has none: who joins sees something, whatever it decodes
	tracks []slateTrack
}

// A slateTrack is the slate of one of the Stream's tracks.
type slateTrack struct {
	units [][]byte
	pack  packing.Converter
}

// arm has the slate shown when the active publisher falls silent. The Stream is locked, and a publisher has just become active.
func (o *offline) arm(s *Stream) {
	if o.timer == nil && s.hub.slate != nil {
		o.timer = time.AfterFunc(slateAfter, s.checkOffline)
	}
}

// stop ends it. The Stream is locked.
func (o *offline) stop() {
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
}

// checkOffline shows the slate where it is due, and sees to being called again.
func (s *Stream) checkOffline() {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.offline
	if s.ended || o.timer == nil {
		return
	}
	now := s.hub.elapsed()
	if quiet := now - max(s.line.arrived, s.heard()); o.turn == 0 && quiet < slateAfter {
		o.timer.Reset(slateAfter - quiet)
		return
	}
	if o.turn == 0 && !s.drawSlate() { // the last picture stays; a publisher that was silent goes on where it was
		o.timer.Reset(slateEvery)
		return
	}
	if s.active != nil { // it may go on at a key frame: the slate takes what its pictures refer to
		s.hub.log.Warn("publisher is silent", "stream", s.name, "uplink", s.active.publisher.Protocol, "remote", s.active.publisher.Remote)
		s.active = nil
		s.gop = cache{}
	}
	s.showSlate(now)
	o.timer.Reset(slateEvery)
}

// heard returns when the active publisher was heard last, whatever it sent.
func (s *Stream) heard() time.Duration {
	if s.active == nil {
		return 0
	}
	return s.active.heard
}

// drawSlate draws the slate of all tracks, and tells whether there is any.
func (s *Stream) drawSlate() (some bool) {
	o := &s.offline
	o.tracks, o.whole = make([]slateTrack, len(s.line.tracks)), true
	for i, t := range s.line.tracks {
		if !t.Codec.Video() {
			continue
		}
		o.tracks[i] = s.slateOf(t)
		has := len(o.tracks[i].units) > 0
		some, o.whole = some || has, o.whole && has
	}
	return some
}

// showSlate forwards one access unit of the slate on each track that has one.
func (s *Stream) showSlate(now time.Duration) {
	o := &s.offline
	pts := s.line.newest + max(now-s.line.arrived, time.Millisecond)
	for i := range o.tracks {
		st := &o.tracks[i]
		if len(st.units) == 0 {
			continue
		}
		whole := &media.Packet{Track: uint8(i), PTS: pts, DTS: pts, Start: true, End: true, Key: true, Data: st.units[o.turn%len(st.units)]}
		for _, p := range st.pack.Convert(nil, whole) {
			if p.Track != uint8(i) {
				moved := *p
				moved.Track = uint8(i)
				p = &moved
			}
			s.forward(p, now, true)
		}
	}
	if !o.shown {
		s.hub.log.Info("slate is shown", "stream", s.name)
	}
	o.shown = true
	o.turn++
}

// slateOf draws the slate of a track, and packs it as the track is.
func (s *Stream) slateOf(t media.Track) slateTrack {
	source := t
	source.Packing = media.AccessUnits
	pack, err := packing.New(source, t.Packing)
	if err != nil {
		return slateTrack{} // no slate in such a packing
	}
	return slateTrack{units: s.hub.slate(t), pack: pack}
}
