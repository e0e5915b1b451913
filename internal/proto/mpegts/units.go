package mpegts

import (
	"log/slog"
	"slices"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"

	"time"

	"gantry/media"
	"gantry/media/h264"
)

// Units is a Sink that makes packets of what Read finds, at the sender's times: whole access units in Annex B, H.264 key frames with the
// parameter sets that came before. Pictures begin with a key frame.
type Units struct {
	Begin  func(tracks []media.Track) error // as Sink.Programme
	Packet func(p *media.Packet)            // takes each packet; it may block
	Log    *slog.Logger

	tracks []unitTrack
}

type unitTrack struct {
	codec media.Codec
	sets  h264.ParameterSets
	begun bool
	lost  bool
}

var _ Sink = (*Units)(nil)

// Programme implements Sink.
func (u *Units) Programme(tracks []media.Track) error {
	u.tracks = make([]unitTrack, len(tracks))
	for i, t := range tracks {
		u.tracks[i].codec = t.Codec
	}
	return u.Begin(tracks)
}

// Video implements Sink.
func (u *Units) Video(i int, pts, dts time.Duration, nalus [][]byte) {
	t := &u.tracks[i]
	au := h264.Join(nalus)
	key := false
	if t.codec == media.H264 {
		t.sets.Learn(au)
		if h264.Slices(au) == 0 {
			return
		}
		if key = h264.HasIDR(au); key {
			au = t.sets.Ensure(au)
		}
	} else {
		if !slices.ContainsFunc(nalus, func(n []byte) bool { return len(n) > 1 && n[0]>>1&0x3f < byte(h265.NALUType_VPS_NUT) }) {
			return // no slice
		}
		key = h265.IsRandomAccess(nalus)
	}
	if t.begun = t.begun || key; t.begun {
		u.Packet(&media.Packet{Track: uint8(i), PTS: pts, DTS: dts, Start: true, End: true, Key: key, Lost: t.lost, Data: au})
		t.lost = false
	}
}

// Audio implements Sink.
func (u *Units) Audio(i int, pts time.Duration, frame []byte) {
	t := &u.tracks[i]
	if len(frame) > 0 {
		u.Packet(&media.Packet{Track: uint8(i), PTS: pts, DTS: pts, Start: true, End: true, Key: true, Lost: t.lost, Data: slices.Clone(frame)})
		t.lost = false
	}
}

// Lost implements Sink.
func (u *Units) Lost(i int) { u.tracks[i].lost = true }

// Fault implements Sink.
func (u *Units) Fault(code, reason string) {
	u.Log.Debug("stream damaged", "code", code, "reason", reason)
}
