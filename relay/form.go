package relay

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"gantry/media"
	"gantry/media/packing"
)

// The cached group of pictures is given up beyond these bounds, until the next key frame.
const (
	maxCached      = 4096 // packets
	maxCachedBytes = 8 << 20
)

// A form is a Stream as some want it: converted once, whatever the number of subscribers, and only while there are any. Its
// Stream's lock guards it.
type form struct {
	want       Want
	transcode  Transcoder
	tracks     []media.Track // as subscribers see them
	converters []packing.Converter
	subs       []*Subscription
	gop        cache
	scratch    []*media.Packet
	silent     string // why a track of sound cannot be had as wanted
}

// newForm returns nil when no track can be had as wanted.
func newForm(tracks []media.Track, want Want, transcode Transcoder) *form {
	f := &form{want: want, transcode: transcode}
	f.restart(tracks)
	for _, c := range f.converters {
		if c != nil {
			return f
		}
	}
	return nil
}

// restart begins anew with another publisher's tracks. A track that cannot be had as wanted stays in the list as it is,
// so that Packet.Track keeps its meaning, and delivers nothing.
func (f *form) restart(tracks []media.Track) {
	f.release()
	f.tracks = slices.Clone(tracks)
	f.converters = make([]packing.Converter, len(tracks))
	f.gop = cache{}
	f.silent = ""
	for i, t := range tracks {
		c, out, err := f.converter(t)
		if err == nil {
			f.tracks[i], f.converters[i] = out, c
		} else if f.want.transcodes(t) {
			f.silent = fmt.Sprintf("viewers who take %v get no sound: it is published as %v, and this relay cannot convert that: %v", f.want.Audio, t.Codec, err)
		}
	}
}

// unheard names what Subscribers miss for want of a Transcoder. The Stream is locked.
func (s *Stream) unheard() []Fault {
	for _, f := range s.forms {
		if f.silent != "" {
			return []Fault{{Code: "no-transcoder", Reason: f.silent}}
		}
	}
	return nil
}

// converter returns what turns t into the wanted form, and the track that comes of it.
func (f *form) converter(t media.Track) (packing.Converter, media.Track, error) {
	if !f.want.transcodes(t) {
		c, err := packing.New(t, f.want.Packing)
		t.Packing = f.want.Packing
		return c, t, err
	}
	if f.transcode == nil {
		return nil, t, errors.New("no transcoder is built in")
	}
	unpack, err := packing.New(t, media.AccessUnits)
	if err != nil {
		return nil, t, err
	}
	t.Packing = media.AccessUnits
	out, transcode, err := f.transcode(t, f.want.Audio)
	if err != nil {
		return nil, t, err
	}
	pack, err := packing.New(out, f.want.Packing)
	if err != nil {
		if c, ok := transcode.(io.Closer); ok {
			_ = c.Close()
		}
		return nil, t, err
	}
	out.Packing = f.want.Packing
	return packing.Chain(unpack, transcode, pack), out, nil
}

// transcodes tells whether t must change its codec.
func (w Want) transcodes(t media.Track) bool {
	return w.Audio != media.NoCodec && t.Codec.Audio() && t.Codec != w.Audio
}

// update notes what has become known of a track.
func (f *form) update(i uint8, t media.Track) {
	if f.want.transcodes(t) {
		return
	}
	t.Packing = f.tracks[i].Packing
	f.tracks[i] = t
}

// release frees what the converters hold outside Go's memory.
func (f *form) release() {
	for _, c := range f.converters {
		if c, ok := c.(io.Closer); ok {
			_ = c.Close()
		}
	}
	f.converters = nil
}

func (f *form) subscribe(s *Stream) *Subscription {
	sub := &Subscription{stream: s, form: f, queue: media.NewQueue(s.hub.cfg.Queue, f.tracks), cached: slices.Clone(f.gop.packets)}
	f.subs = append(f.subs, sub)
	return sub
}

// write converts p for all subscribers and returns the bit set of the tracks of which one of them now needs a key frame.
func (f *form) write(p *media.Packet) (needKey uint64) {
	if int(p.Track) >= len(f.converters) || f.converters[p.Track] == nil {
		return 0
	}
	f.scratch = f.converters[p.Track].Convert(f.scratch[:0], p)
	for _, out := range f.scratch {
		f.gop.add(out, f.tracks[p.Track].Codec.Video())
		for _, sub := range f.subs {
			_, need := sub.queue.Push(out)
			needKey |= need
		}
	}
	return needKey
}

func (f *form) close(err error) {
	for _, sub := range f.subs {
		sub.queue.Close(err)
	}
	f.subs = nil
	f.release()
}

// cache is the groups of pictures that a new Subscription starts with: of each video track all since its last key frame, and
// the sound beside them.
type cache struct {
	packets []*media.Packet
	video   uint64 // bit set of the tracks that have begun
	bytes   int
}

func (c *cache) add(p *media.Packet, video bool) {
	bit := uint64(1) << (p.Track & 63)
	switch {
	case video && p.Key && p.Start:
		c.restart(p.Track)
		c.video |= bit
	case c.video == 0 || video && c.video&bit == 0:
		return // nothing to decode it with
	}
	c.bytes += len(p.Data)
	if len(c.packets) == maxCached || c.bytes > maxCachedBytes {
		*c = cache{}
		return
	}
	c.packets = append(c.packets, p)
}

// restart drops the group of one track and the sound from before all groups that are left. Subscribers may still read the
// old slice, so a new one is made.
func (c *cache) restart(track uint8) {
	old := c.packets
	c.packets, c.bytes = make([]*media.Packet, 0, max(64, len(old))), 0
	others := c.video &^ (1 << (track & 63))
	for _, p := range old {
		isVideo := c.video&(1<<(p.Track&63)) != 0
		if p.Track == track || !isVideo && len(c.packets) == 0 || others == 0 {
			continue
		}
		c.packets = append(c.packets, p)
		c.bytes += len(p.Data)
	}
}
