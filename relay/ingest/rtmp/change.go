package rtmp

import (
	"errors"
	"reflect"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/message"
)

// errChanged: the publisher describes a track anew, in another codec or otherwise, or one more; a new Reader begins with all
// descriptions.
var errChanged = errors.New("the publisher's tracks change")

// A watched connection sees tracks being described anew, which the library's Reader takes for media of the old description or passes
// over. It is read by one Reader after the other.
type watched struct {
	gortmplib.Conn
	known map[place]message.Message // the newest description of each track
	order []place
	again []message.Message // what the next Reader reads first
	look  *look             // while a Reader finds the tracks
}

// A place is a track of the connection.
type place struct {
	video bool
	id    uint8
}

func watch(c gortmplib.Conn) *watched { return &watched{Conn: c, known: map[place]message.Message{}} }

// find has a new Reader find the tracks.
func (w *watched) find() (*gortmplib.Reader, error) {
	w.look = &look{tracks: map[place]*looked{}}
	r := &gortmplib.Reader{Conn: w}
	err := r.Initialize()
	w.look.end()
	w.look = nil
	return r, err
}

// Read implements gortmplib.Conn. With errChanged, what it read is kept for the next Reader.
func (w *watched) Read() (message.Message, error) {
	if len(w.again) > 0 {
		m := w.again[0]
		w.again = w.again[1:]
		if at, _ := describes(m); w.look != nil {
			w.look.show(m, at, true)
		}
		return m, nil
	}
	for {
		m, err := w.Conn.Read()
		if err != nil {
			return nil, err
		}
		at, description := describes(m)
		if description {
			return m, w.describe(at, m)
		}
		if undescribed(m) && w.known[at] == nil {
			continue // nobody can decode it
		}
		if w.look != nil {
			w.look.show(m, at, false)
		}
		return m, nil
	}
}

// describe notes the description of a track.
func (w *watched) describe(at place, m message.Message) error {
	old := w.known[at]
	w.known[at] = m
	if old == nil {
		w.order = append(w.order, at)
	}
	if old == nil && w.look != nil || old != nil && same(old, m) {
		if w.look != nil {
			sound, ok := m.(*message.Audio)
			w.look.show(m, at, !ok || sound.Codec == message.CodecMPEG4Audio)
		}
		return nil
	}
	for _, at := range w.order {
		w.again = append(w.again, w.known[at])
	}
	return errChanged
}

// undescribed tells whether m is media of classic RTMP that needs a description before it.
func undescribed(m message.Message) bool {
	switch m := m.(type) {
	case *message.Video:
		return m.Type == message.VideoTypeAU
	case *message.Audio:
		return m.Codec == message.CodecMPEG4Audio
	}
	return false
}

// describes tells which track a message is of, and whether it describes that.
func describes(m message.Message) (place, bool) {
	switch m := m.(type) {
	case *message.Video:
		return place{video: true}, m.Type == message.VideoTypeConfig
	case *message.VideoExSequenceStart:
		return place{video: true}, true
	case *message.VideoExCodedFrames, *message.VideoExFramesX:
		return place{video: true}, false
	case *message.VideoExMultitrack:
		_, ok := m.Wrapped.(*message.VideoExSequenceStart)
		return place{video: true, id: m.TrackID}, ok
	case *message.Audio:
		return place{}, m.Codec != message.CodecMPEG4Audio || m.AACType == message.AudioAACTypeConfig // others describe themselves
	case *message.AudioExSequenceStart:
		return place{}, true
	case *message.AudioExMultitrack:
		_, ok := m.Wrapped.(*message.AudioExSequenceStart)
		return place{id: m.TrackID}, ok
	}
	return place{}, false
}

// same tells whether b describes what a does. The parameter sets of classic RTMP's H.264 and H.265 may differ: the Reader hands them on.
func same(a, b message.Message) bool {
	switch a := a.(type) {
	case *message.Video:
		b, ok := b.(*message.Video)
		return ok && a.Codec == b.Codec
	case *message.Audio:
		b, ok := b.(*message.Audio)
		return ok && reflect.DeepEqual(a.AACConfig, b.AACConfig)
	}
	return reflect.DeepEqual(a, b)
}
