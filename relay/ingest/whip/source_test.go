package whip

import (
	"testing"
	"time"

	"github.com/pion/rtp"

	"gantry/media"
)

// header returns an RTP header with one-byte extensions.
func header(t *testing.T, ssrc uint32, kind uint8, extensions map[uint8]string) *rtp.Header {
	t.Helper()
	h := &rtp.Header{Version: 2, SSRC: ssrc, PayloadType: kind}
	for id, value := range extensions {
		if err := h.SetExtension(id, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// simulcast returns a session of sound and three layers of video.
func simulcast(layers ...string) *session {
	rtx := payload{number: 97}
	video := &section{kind: "video", mid: "0", layers: layers, extensions: extensions{mid: 1, rid: 2, repaired: 3},
		choices: []choice{{codec: media.H264, params: payload{number: 96, rate: 90000}, rtx: &rtx}}}
	sound := &section{kind: "audio", mid: "1", extensions: extensions{mid: 1}, choices: []choice{{codec: media.Opus, params: payload{number: 111, rate: 48000}}}}
	s := &session{path: path{sources: map[uint32]source{}}}
	s.prepare([]*section{video, sound})
	return s
}

func TestSources(t *testing.T) {
	s := simulcast("hi", "mid", "lo")
	for _, c := range []struct {
		name   string
		h      *rtp.Header
		rid    string
		repair bool
		ok     bool
	}{
		{"a layer that says who it is", header(t, 1, 96, map[uint8]string{1: "0", 2: "hi"}), "hi", false, true},
		{"again, without saying so", header(t, 1, 96, nil), "hi", false, true},
		{"a layer that does not say so", header(t, 2, 96, nil), "", false, false},
		{"another layer, by RID alone", header(t, 2, 96, map[uint8]string{2: "lo"}), "lo", false, true},
		{"a layer that was not offered", header(t, 3, 96, map[uint8]string{2: "x"}), "", false, false},
		{"what is sent again of a layer", header(t, 4, 97, map[uint8]string{3: "lo"}), "lo", true, true},
		{"sound, by its payload type", header(t, 5, 111, nil), "", false, true},
		{"the mid of another section", header(t, 6, 111, map[uint8]string{1: "0"}), "", false, false},
		{"a payload type that was not negotiated", header(t, 7, 100, map[uint8]string{1: "0", 2: "mid"}), "", false, false},
	} {
		got, ok := s.source(c.h, time.Second)
		if ok != c.ok || ok && (got.repair != c.repair || got.track.rid != c.rid) {
			t.Errorf("%s: %v, %+v", c.name, ok, got)
		}
	}
	if len(s.sources) != 4 {
		t.Errorf("%d sources are known", len(s.sources))
	}
}

// An encoder that begins anew comes under another SSRC; a second one beside the first is not mixed with it.
func TestSourceChanges(t *testing.T) {
	s := simulcast()
	video := s.tracks[0]
	if _, ok := s.source(header(t, 1, 96, nil), time.Second); !ok {
		t.Fatal("not taken")
	}
	video.heard = time.Second
	if _, ok := s.source(header(t, 2, 96, nil), 1100*time.Millisecond); ok {
		t.Error("two at once")
	}
	if got, ok := s.source(header(t, 2, 96, nil), 2*time.Second); !ok || got.track != video || video.ssrc != 2 || len(s.sources) != 1 {
		t.Errorf("after a second of silence: %v, %+v", ok, s.sources)
	}
	// What repairs a track without layers needs no name, and the offer may have said so.
	if got, ok := s.source(header(t, 9, 97, nil), 2*time.Second); !ok || !got.repair || got.track != video {
		t.Errorf("RTX: %v, %+v", ok, got)
	}
	for i := range uint32(100) {
		video.heard = 0
		s.source(header(t, 100+i, 97, nil), time.Hour)
	}
	if len(s.sources) > maxSources {
		t.Errorf("%d sources", len(s.sources))
	}
}
