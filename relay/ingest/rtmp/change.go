package rtmp

import (
	"errors"
	"reflect"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/message"
)

// errChanged: the publisher describes a track anew, in another codec or otherwise; a new Reader begins with all descriptions.
var errChanged = errors.New("the publisher's tracks change")

// A watched connection sees tracks being described anew, which the library's Reader takes for media of the old description or passes
// over. It is read by one Reader after the other.
type watched struct {
	gortmplib.Conn
	known map[place]message.Message // the newest description of each track
	order []place
	again []message.Message // what the next Reader reads first
}

// A place is a track of the connection.
type place struct {
	video bool
	id    uint8
}

func watch(c gortmplib.Conn) *watched { return &watched{Conn: c, known: map[place]message.Message{}} }

// Read implements gortmplib.Conn. With errChanged, what it read is kept for the next Reader.
func (w *watched) Read() (message.Message, error) {
	if len(w.again) > 0 {
		m := w.again[0]
		w.again = w.again[1:]
		return m, nil
	}
	m, err := w.Conn.Read()
	if err != nil {
		return nil, err
	}
	at, ok := describes(m)
	if !ok {
		return m, nil
	}
	old := w.known[at]
	w.known[at] = m
	if old == nil {
		w.order = append(w.order, at)
		return m, nil
	}
	if same(old, m) {
		return m, nil
	}
	for _, at := range w.order {
		w.again = append(w.again, w.known[at])
	}
	return nil, errChanged
}

// describes tells which track a message describes, if it does.
func describes(m message.Message) (place, bool) {
	switch m := m.(type) {
	case *message.Video:
		return place{video: true}, m.Type == message.VideoTypeConfig
	case *message.VideoExSequenceStart:
		return place{video: true}, true
	case *message.VideoExMultitrack:
		_, ok := m.Wrapped.(*message.VideoExSequenceStart)
		return place{video: true, id: m.TrackID}, ok
	case *message.Audio:
		return place{}, m.Codec == message.CodecMPEG4Audio && m.AACType == message.AudioAACTypeConfig
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
