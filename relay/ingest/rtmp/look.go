package rtmp

import (
	"time"

	"github.com/bluenviron/gortmplib/pkg/message"
)

const (
	longStep = 500 * time.Millisecond // a longer step of a track's times is a jump
	longLook = 4 * time.Second        // by the clock: then the tracks that have been described are all
)

// A look is what happens while the library's Reader finds the tracks. It looks at two seconds of media by their times, and takes
// them at their word: a jump ends that too soon, a step back not at all. Meanwhile it is shown times that rise as the media does.
type look struct {
	begun  time.Time
	tracks map[place]*looked
	now    time.Duration
	shown  []shown
}

type looked struct{ last, took time.Duration }

// A shown is a time that was replaced, and what it was.
type shown struct {
	at *time.Duration
	is time.Duration
}

func (l *look) show(m message.Message, at place, description bool) {
	dts := times(m)
	if dts == nil {
		return
	}
	if l.begun.IsZero() {
		l.begun = time.Now()
	}
	if !description {
		t := l.tracks[at]
		if t == nil {
			t = &looked{last: *dts}
			l.tracks[at] = t
		}
		t.took += min(max(*dts-t.last, 0), longStep)
		t.last = *dts
		l.now = max(l.now, t.took)
		if time.Since(l.begun) > longLook {
			l.now += longLook
		}
	}
	l.shown = append(l.shown, shown{dts, *dts})
	*dts = l.now
}

// end gives the messages their times back: the Reader has kept them, to read them again.
func (l *look) end() {
	for _, s := range l.shown {
		*s.at = s.is
	}
}

// times returns where a message has its decoding time; nil: it is of no importance.
func times(m message.Message) *time.Duration {
	switch m := m.(type) {
	case *message.Video:
		return &m.DTS
	case *message.VideoExCodedFrames:
		return &m.DTS
	case *message.VideoExFramesX:
		return &m.DTS
	case *message.VideoExMultitrack:
		return times(m.Wrapped)
	case *message.Audio:
		return &m.DTS
	case *message.AudioExCodedFrames:
		return &m.DTS
	case *message.AudioExMultitrack:
		return times(m.Wrapped)
	}
	return nil
}
