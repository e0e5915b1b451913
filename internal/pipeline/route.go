package pipeline

import (
	"fmt"
	"slices"

	"gantry/media"
)

// An ownTrack is what a source that comes coded sends.
type ownTrack struct {
	coded     bool        // there is such a source
	track     media.Track // NoCodec: it is not known yet
	reordered bool
	pass      PassThrough
}

// A route says which pictures a destination gets.
type route struct {
	renditions []string
	uplink     Uplink
	why        string // it does not get the source's own packets; empty: it does, or the source delivers pictures
}

// direct tells whether it gets the source's own packets.
func (r route) direct() bool { return r.renditions[0] == sourceRID }

// route decides for one destination: the source's own packets where it can have them.
func (s ownTrack) route(u Uplink) route {
	r := route{uplink: u, renditions: append([]string{u.Rendition}, u.Layers...)}
	switch {
	case !s.coded:
	case len(u.Layers) > 0:
		r.why = "simulcast"
	case u.Rendition != "":
		r.why = fmt.Sprintf("the rendition %s", u.Rendition)
	case s.pass == PassNever:
		r.why = "passing through is switched off"
	case s.track.Codec == media.NoCodec:
		r.why = "nothing has come from the source yet"
	case u.Carries != nil && !slices.Contains(u.Carries, s.track.Codec):
		r.why = fmt.Sprintf("it takes no %v", s.track.Codec)
	case u.InOrder && s.reordered:
		r.why = "B-frames"
	default:
		r.renditions = []string{sourceRID}
	}
	return r
}

// route is ownTrack.route, with what is known of the destination's path.
func (t *tracks) route(u Uplink) route {
	r := t.source.route(u)
	if w := t.widths[u.Name]; t.source.coded && r.direct() && w.narrow {
		r.renditions, r.why = []string{u.Rendition}, fmt.Sprintf("the path carries %.1f Mbit/s", float64(w.carries)/1e6)
	}
	return r
}

// setPass says what the source's own packets are.
func (t *tracks) setPass(v media.Track, reordered bool, pass PassThrough) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = ownTrack{coded: true, track: v, reordered: reordered, pass: pass}
	t.video[sourceRID] = v
	t.redirect()
}

// expectPass says that the source comes coded, before it is known as what.
func (t *tracks) expectPass(pass PassThrough) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = ownTrack{coded: true, pass: pass}
	delete(t.video, sourceRID)
	t.redirect() // who had the packets of the source before gets the slate of the main encode
}

// forgetPass says that the source does not come coded any more.
func (t *tracks) forgetPass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.source.coded {
		return
	}
	t.source = ownTrack{}
	delete(t.video, sourceRID)
	t.redirect()
}

// redirect decides anew for all destinations that are running.
func (t *tracks) redirect() {
	for name, r := range t.routes {
		t.routes[name] = t.route(r.uplink)
	}
	t.change()
}

// leave forgets a destination that is not running.
func (t *tracks) leave(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.routes, name)
	delete(t.widths, name)
}

// encodes tells whether a destination shall get something else than the source's own packets.
func (t *tracks) encodes() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.routes {
		if !r.direct() {
			return true
		}
	}
	return false
}

// encodes tells whether a destination gets, or still gets, something else than the source's own packets.
func (p *passing) encodes() bool { return p.tracks.encodes() || p.fanout.turning() }

// needPictures tells whether somebody needs pictures of a source that comes coded.
func (p *passing) needPictures() bool {
	if p.encodes() {
		return true
	}
	p.tracks.mu.Lock()
	defer p.tracks.mu.Unlock()
	return p.tracks.looks > 0
}

// passes tells whether the source's own packets are what destinations can get.
func (t *tracks) passes() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.video[sourceRID]
	return known && t.source.pass != PassNever
}

// look says that somebody needs pictures beside the destinations, until done is called.
func (t *tracks) look() (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looks++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.looks--
	}
}

// way says in words how a destination's pictures come about.
func (t *tracks) way(name string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.routes[name]
	switch {
	case !ok || !t.source.coded:
		return ""
	case r.direct():
		return "passed through"
	}
	return "re-encoded: " + t.route(r.uplink).why // with what the path carries now
}

// presented is what a Sender sees of the tracks.
func presented(list []media.Track) []media.Track {
	list = slices.Clone(list)
	for i := range list {
		if list[i].RID == sourceRID {
			list[i].RID = ""
		}
	}
	return list
}

// reroute gives a connected destination the pictures of another encoder of the same codec, or the source's own.
func (u *uplinks) reroute(l *link, tracks []media.Track) {
	l.log.Info("other pictures", "reason", u.tracks.way(l.spec.Name))
	u.fanout.reroute(l.spec.Name, tracks)
	u.feedback.turn(l.spec.Name, renditionsOf(tracks))
	u.feedback.put(l.spec.Name, media.Feedback{KeyFrame: true})
}
