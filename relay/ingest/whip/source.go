package whip

import (
	"slices"
	"time"

	"github.com/pion/rtp"
)

const (
	// maxSources bounds the SSRCs of a session: each layer has one, and one for what is sent again.
	maxSources = 2 * (maxLayers + 1)
	// newSource is how long a track's SSRC must be silent before another may take its place, as an encoder's that began anew.
	newSource = 500 * time.Millisecond
)

// A source is what a publisher sends under one SSRC.
type source struct {
	track  *track
	repair bool // RTX (RFC 4588)
}

// source finds out what a packet belongs to (RFC 8843 §9.2); false: nothing that was negotiated. The session is locked.
func (s *session) source(h *rtp.Header, now time.Duration) (source, bool) {
	if known, ok := s.sources[h.SSRC]; ok {
		return known, true
	}
	sec, repair := s.sectionOf(h)
	if sec == nil {
		return source{}, false
	}
	t := s.layerOf(sec, h, repair)
	if t == nil || len(s.sources) >= maxSources {
		return source{}, false
	}
	if !repair {
		if t.ssrc != 0 {
			if now-t.heard < newSource {
				return source{}, false
			}
			delete(s.sources, t.ssrc)
			t.reception = reception{}
		}
		t.ssrc = h.SSRC
	}
	known := source{track: t, repair: repair}
	s.sources[h.SSRC] = known
	return known, true
}

// sectionOf returns the section of a packet by its mid, else by its payload type, nil when there is none; repair tells that it
// is RTX.
func (s *session) sectionOf(h *rtp.Header) (sec *section, repair bool) {
	for _, t := range s.tracks {
		own, again := t.section.takes(h.PayloadType)
		if !own && !again {
			continue
		}
		if id := t.section.extensions.mid; id != 0 {
			if mid := h.GetExtension(id); mid != nil && string(mid) != t.section.mid {
				continue
			}
		}
		return t.section, again
	}
	return nil, false
}

// takes tells whether a payload type is one of s, and whether it is RTX's.
func (s *section) takes(number uint8) (own, repair bool) {
	for i := range s.choices {
		own = own || s.choices[i].params.number == number
		repair = repair || s.choices[i].rtx != nil && s.choices[i].rtx.number == number
	}
	return own, repair
}

// layerOf returns the track of a section that a packet belongs to, nil when that cannot be told yet.
func (s *session) layerOf(sec *section, h *rtp.Header, repair bool) *track {
	if repair {
		if original := s.sources[sec.repairs[h.SSRC]].track; original != nil {
			return original
		}
	}
	rid := ""
	if len(sec.layers) > 0 {
		id := sec.rid
		if repair {
			id = sec.repaired
		}
		if id == 0 {
			return nil
		}
		rid = string(h.GetExtension(id))
	}
	if i := slices.IndexFunc(s.tracks, func(t *track) bool { return t.section == sec && t.rid == rid }); i >= 0 {
		return s.tracks[i]
	}
	return nil
}
