package relay

import (
	"slices"

	"gantry/media"
	"gantry/media/packing"
)

// The cached group of pictures is given up beyond these bounds, until the next key frame.
const (
	maxCached      = 4096 // packets
	maxCachedBytes = 8 << 20
)

// A form is a Stream in one packing: converted once, whatever the number of subscribers. Its Stream's lock guards it.
type form struct {
	want       media.Packing
	tracks     []media.Track // as subscribers see them
	converters []packing.Converter
	subs       []*Subscription
	gop        cache
	scratch    []*media.Packet
}

// newForm returns nil when no track can be packed as wanted.
func newForm(tracks []media.Track, want media.Packing) *form {
	f := &form{want: want}
	f.restart(tracks)
	for _, c := range f.converters {
		if c != nil {
			return f
		}
	}
	return nil
}

// restart begins anew with another publisher's tracks. A track that cannot be packed as wanted stays in the list as it is,
// so that Packet.Track keeps its meaning, and delivers nothing.
func (f *form) restart(tracks []media.Track) {
	f.tracks = slices.Clone(tracks)
	f.converters = make([]packing.Converter, len(tracks))
	f.gop = cache{}
	for i, t := range tracks {
		if c, err := packing.New(t, f.want); err == nil {
			f.tracks[i].Packing = f.want
			f.converters[i] = c
		}
	}
}

// update notes what has become known of a track.
func (f *form) update(i uint8, t media.Track) {
	t.Packing = f.tracks[i].Packing
	f.tracks[i] = t
}

func (f *form) subscribe(s *Stream) *Subscription {
	sub := &Subscription{stream: s, form: f, queue: media.NewQueue(s.hub.cfg.Queue, f.tracks), cached: slices.Clone(f.gop.packets)}
	f.subs = append(f.subs, sub)
	return sub
}

// write converts p for all subscribers and tells whether one of them now needs a key frame.
func (f *form) write(p *media.Packet) (needKey bool) {
	c := f.converters[p.Track]
	if c == nil {
		return false
	}
	f.scratch = c.Convert(f.scratch[:0], p)
	for _, out := range f.scratch {
		f.gop.add(out, f.tracks[p.Track].Codec.Video())
		for _, sub := range f.subs {
			_, need := sub.queue.Push(out)
			needKey = needKey || need
		}
	}
	return needKey
}

func (f *form) close(err error) {
	for _, sub := range f.subs {
		sub.queue.Close(err)
	}
	f.subs = nil
}

// cache is the group of pictures that a new Subscription starts with.
type cache struct {
	packets []*media.Packet
	bytes   int
}

func (c *cache) add(p *media.Packet, video bool) {
	if video && p.Key && p.Start {
		// Subscribers may still read the old one: begin anew.
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
