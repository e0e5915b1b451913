package ingest

import (
	"errors"
	"slices"
	"sync"
	"time"

	"gantry/media"
	"gantry/relay"
)

// sameClock is how far from its arrival a layer's time may lie on the first layer's clock to be believed to have that: one encoder
// stamps all its feeds alike.
const sameClock = time.Second

// ErrLayerTaken: a feed of that layer is there already.
var ErrLayerTaken = errors.New("another feed of this stream is this layer: give each its own simulcastId")

// A sink is where a Feed writes to: a Publication, or a layer of a group's.
type sink interface {
	Write(p *media.Packet)
	Update(track uint8, t media.Track)
	Fault(code, reason string)
	Done() <-chan struct{}
	Err() error
	Close() error
}

// A group is one publisher to the Hub, made of several feeds: each one's pictures are a layer, and the sound is that of the first that
// has some. When a feed comes or goes, it publishes anew; the old Publication gets its packets until the new one is forwarded.
type group struct {
	key groupKey

	mu     sync.Mutex
	layers []*layer // in the order in which they came
	pub    *relay.Publication
	old    *relay.Publication // until pub is forwarded
	faults map[string]string
	newest time.Duration // PTS of all layers
	heard  time.Time     // when newest came
	err    error
	done   chan struct{}
}

type groupKey struct {
	hub      *relay.Hub
	stream   string
	priority int
}

// groups are those that have feeds.
var groups = struct {
	sync.Mutex
	all map[groupKey]*group
}{all: map[groupKey]*group{}}

// A layer is one feed of a group.
type layer struct {
	group  *group
	id     string
	from   relay.Publisher
	tracks []media.Track
	shift  time.Duration // its PTS → the group's
	begun  bool
	now    []int // its tracks' places in pub; -1: left out
	then   []int // and in old
}

// join adds a feed to the group of its stream and priority.
func join(hub *relay.Hub, name string, p relay.Publisher) (*layer, error) {
	id := p.Layer
	key := groupKey{hub, name, p.Priority}
	groups.Lock()
	defer groups.Unlock()
	g := groups.all[key]
	if g == nil {
		g = &group{key: key, faults: map[string]string{}, done: make(chan struct{})}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.ContainsFunc(g.layers, func(l *layer) bool { return l.id == id }) {
		return nil, ErrLayerTaken
	}
	l := &layer{group: g, id: id, from: p, tracks: slices.Clone(p.Tracks)}
	g.layers = append(g.layers, l)
	if err := g.publish(); err != nil {
		g.layers = g.layers[:len(g.layers)-1]
		return nil, err
	}
	groups.all[key] = g
	return l, nil
}

// publish enters the group into the Hub with the layers that it has now.
func (g *group) publish() error {
	var tracks []media.Track
	sound := false
	places := make([][]int, len(g.layers))
	for i, l := range g.layers {
		own := false // the sound is one feed's
		for _, t := range l.tracks {
			place := len(tracks)
			switch {
			case t.Codec.Video():
				t.RID = l.id
			case sound && !own:
				place = -1
			default:
				sound, own = true, true
			}
			if places[i] = append(places[i], place); place >= 0 {
				tracks = append(tracks, t)
			}
		}
	}
	p := g.layers[0].from
	p.Tracks = tracks
	pub, err := g.key.hub.Publish(g.key.stream, p)
	if err != nil {
		return err
	}
	if g.old != nil {
		_ = g.old.Close()
	}
	g.old, g.pub = g.pub, pub
	for i, l := range g.layers {
		l.then, l.now = l.now, places[i]
	}
	for code, reason := range g.faults {
		pub.Fault(code, reason)
	}
	go g.watch(pub)
	return nil
}

// watch ends the group with its Publication, unless that has given way to the group's next.
func (g *group) watch(pub *relay.Publication) {
	<-pub.Done()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pub == pub && g.err == nil {
		g.err = pub.Err()
		close(g.done)
	}
}

// Write implements sink.
func (l *layer) Write(p *media.Packet) {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !l.begun {
		l.begun = true
		if !g.heard.IsZero() {
			if off := g.newest + now.Sub(g.heard) - p.PTS; off.Abs() > sameClock {
				l.shift = off
			}
		}
	}
	moved := *p
	moved.PTS, moved.DTS = p.PTS+l.shift, p.DTS+l.shift
	if moved.PTS > g.newest || g.heard.IsZero() {
		g.newest, g.heard = moved.PTS, now
	}
	write := func(pub *relay.Publication, places []int) {
		if pub != nil && int(p.Track) < len(places) && places[p.Track] >= 0 {
			own := moved
			own.Track = uint8(places[p.Track])
			pub.Write(&own)
		}
	}
	write(g.pub, l.now)
	if g.old != nil && p.Key { // where viewers change over
		_ = g.old.Close()
		g.old = nil
	}
	write(g.old, l.then)
}

// Update implements sink.
func (l *layer) Update(track uint8, t media.Track) {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	l.tracks[track] = t
	if t.Codec.Video() {
		t.RID = l.id
	}
	if int(track) < len(l.now) && l.now[track] >= 0 {
		g.pub.Update(uint8(l.now[track]), t)
	}
}

// Fault implements sink.
func (l *layer) Fault(code, reason string) {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if reason == "" {
		delete(g.faults, code)
	} else {
		reason = "layer " + l.id + ": " + reason
		g.faults[code] = reason
	}
	g.pub.Fault(code, reason)
}

// Done implements sink.
func (l *layer) Done() <-chan struct{} { return l.group.done }

// Err implements sink.
func (l *layer) Err() error {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	return l.group.err
}

// Close implements sink: the others go on without this layer.
func (l *layer) Close() error {
	groups.Lock()
	defer groups.Unlock()
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.layers, l)
	if i < 0 {
		return nil
	}
	g.layers = slices.Delete(g.layers, i, i+1)
	if len(g.layers) > 0 && g.err == nil {
		return g.publish()
	}
	if groups.all[g.key] == g && len(g.layers) == 0 {
		delete(groups.all, g.key)
	}
	if len(g.layers) == 0 {
		if g.old != nil {
			_ = g.old.Close()
		}
		return g.pub.Close()
	}
	return nil
}
