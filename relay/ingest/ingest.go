// Package ingest mends what publishers of whole access units send (SRT, RTMP, RTSP), in one place for all protocols: clocks
// that jump, wrap or run backwards, key frames without parameter sets, pictures out of display order. Its sub-packages are the
// servers; relay/ingest/whip, which gets RTP, has repairs of its own.
//
// It knows no protocol and no transport.
package ingest

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"

	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
)

// Beyond these a timestamp is not late or early but of another timeline.
const (
	maxBack    = 2 * time.Second
	maxForward = 10 * time.Second
)

// idrPatience is how long after an IDR picture recovery points are no place to begin at: most encoders' next IDR picture is near.
const idrPatience = 5 * time.Second

// faultFor is how long a fault that stopped happening stays visible.
const faultFor = 10 * time.Second

// A Feed writes one publisher's access units to the Hub. One goroutine uses it; it never blocks.
//
// Times are the publisher's own, on any origin, unwrapped. The Feed keeps them rising by track: small steps back are
// clamped, jumps move the whole timeline so that it goes on where it stood.
type Feed struct {
	pub    sink
	tracks []track
	now    func() time.Duration

	shift   time.Duration // publisher's time → ours
	newest  time.Duration // of all tracks, ours
	arrived time.Duration // now() at newest
	begun   bool
	repairs int

	faults map[string]time.Duration // code → now() when last seen
}

type track struct {
	media.Track
	last  time.Duration // newest DTS, ours
	begun bool
	h264  h264.ParameterSets
	order h264.Order
	h265  parameterSets265
	facts string // what Update was last told: the SPS
	lost  bool   // something is missing before the next access unit

	idr  time.Duration // H.264: DTS of the last IDR picture
	seen bool          // there was one
}

// complete tells whether the parameter sets are known.
func (t *track) complete() bool {
	if t.Codec == media.H265 {
		return t.h265.complete()
	}
	return t.h264.Complete()
}

// NewFeed publishes tracks of access units under name. Feeds that name a layer, and have the same priority, are layers of one
// picture; ErrLayerTaken says that there is one of that name. The Feed ends with Close or when Done is closed.
func NewFeed(hub *relay.Hub, name string, p relay.Publisher) (*Feed, error) {
	pub, err := publish(hub, name, p)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	f := &Feed{pub: pub, tracks: make([]track, len(p.Tracks)), now: func() time.Duration { return time.Since(start) },
		faults: map[string]time.Duration{}}
	for i, t := range p.Tracks {
		f.tracks[i].Track = t
	}
	return f, nil
}

func publish(hub *relay.Hub, name string, p relay.Publisher) (sink, error) {
	if p.Layer == "" {
		return hub.Publish(name, p)
	}
	return join(hub, name, p)
}

// ErrLayer: a layer's name is bad.
var ErrLayer = errors.New("simulcastId: want 1 to 16 letters and digits")

// Describe puts into p what a publisher says of itself in its address or stream id: priority, and as simulcastId which layer of the
// stream it is, which is named as RIDs are (RFC 8852 §3).
func Describe(p *relay.Publisher, said url.Values) error {
	p.Priority, _ = strconv.Atoi(said.Get("priority"))
	p.Layer = said.Get("simulcastId")
	if !ValidLayer(p.Layer) {
		return ErrLayer
	}
	return nil
}

// ValidLayer tells whether a layer may have this name; "" is none.
func ValidLayer(id string) bool {
	return len(id) <= 16 && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
}

// Done is closed when the Hub has ended the publication; Err then says why.
func (f *Feed) Done() <-chan struct{} { return f.pub.Done() }

// Err is the publication's.
func (f *Feed) Err() error { return f.pub.Err() }

// Close ends the publication.
func (f *Feed) Close() error { return f.pub.Close() }

// Fault names something wrong that the protocol's own server noticed; it fades after a while.
func (f *Feed) Fault(code, reason string) {
	if _, known := f.faults[code]; !known {
		f.pub.Fault(code, reason)
	}
	f.faults[code] = f.now()
}

// Lost tells that something of a track is missing before what comes next.
func (f *Feed) Lost(i int) { f.tracks[i].lost = true }

// Video takes one access unit as NAL units, in coding order. The memory of nalus may be reused after the call.
func (f *Feed) Video(i int, pts, dts time.Duration, nalus [][]byte) {
	au := h264.Join(nalus)
	if len(au) == 0 {
		return
	}
	t := &f.tracks[i]
	key := false
	switch t.Codec {
	case media.H264:
		key = h264.HasIDR(au)
		if t.h264.Learn(au) {
			f.learn264(i)
		}
		if h264.Slices(au) == 0 {
			return // parameter sets alone, as RTMP sends them
		}
		if key {
			t.idr, t.seen = dts, true
		} else if !t.seen || (dts-t.idr).Abs() > idrPatience {
			if key = h264.RecoveryPoint(au); key {
				f.Fault("no-idr", "the encoder sends no whole key frames (intra refresh, or open GOPs): browsers cannot begin; have it send IDR pictures")
			}
		}
		if key {
			au = t.h264.Ensure(au)
		}
		if p := t.order.Observe(au); p.Reordered || p.B && pts != dts {
			f.Fault("b-frames", "pictures arrive out of display order (B-frames): browsers show only key frames; set B-frames to 0 in the encoder")
		}
	case media.H265:
		key, au = t.h265.ensure(nalus, au)
		if sps := t.h265.sets[1]; string(sps) != t.facts {
			t.facts = string(sps)
			f.learn265(i, sps)
		}
		if !hasPicture265(nalus) {
			return
		}
	}
	if key && !t.complete() {
		f.Fault("parameter-sets", "key frames come without their parameter sets (SPS, PPS): nobody can decode; have the encoder repeat its headers")
		key = false // no place for a viewer to begin at
	}
	f.write(i, pts, dts, key, au)
}

// AV1 takes one temporal unit as OBUs without size fields. The memory of obus may be reused after the call.
func (f *Feed) AV1(i int, pts time.Duration, obus [][]byte) {
	data, err := av1.Bitstream(obus).Marshal()
	if err != nil || len(data) == 0 {
		return
	}
	key := slices.ContainsFunc(obus, func(o []byte) bool { return len(o) > 0 && o[0]>>3&15 == byte(av1.OBUTypeSequenceHeader) })
	f.write(i, pts, pts, key, data)
}

// Audio takes one coded audio frame. Its memory may be reused after the call.
func (f *Feed) Audio(i int, pts time.Duration, frame []byte) {
	if len(frame) > 0 {
		f.write(i, pts, pts, false, append([]byte(nil), frame...))
	}
}

func (f *Feed) write(i int, pts, dts time.Duration, key bool, data []byte) {
	t := &f.tracks[i]
	pts, dts = f.place(t, pts, dts)
	f.pub.Write(&media.Packet{Track: uint8(i), PTS: pts, DTS: dts, Start: true, End: true, Key: key, Lost: t.lost, Data: data})
	t.lost = false
	f.fade()
}

// place moves the publisher's times onto the Feed's timeline.
func (f *Feed) place(t *track, pts, dts time.Duration) (time.Duration, time.Duration) {
	now := f.now()
	if pts < dts {
		pts = dts
		f.repaired("a presentation time lies before its decoding time")
	}
	if f.begun && (dts+f.shift < f.newest-maxBack || dts+f.shift > f.newest+maxForward) {
		f.shift = f.newest + max(now-f.arrived, time.Millisecond) - dts
		f.repaired("the encoder's clock jumped")
	}
	pts, dts = pts+f.shift, dts+f.shift
	if t.begun && dts <= t.last {
		step := t.last + time.Millisecond - dts
		pts, dts = pts+step, dts+step
		f.repaired("decoding times do not rise")
	}
	t.last, t.begun = dts, true
	if !f.begun || dts > f.newest {
		f.newest, f.arrived, f.begun = dts, now, true
	}
	return pts, dts
}

func (f *Feed) repaired(what string) {
	f.repairs++
	f.Fault("timestamps", fmt.Sprintf("%s; it is mended here, but check the encoder", what))
}

// Repairs returns how many timestamps were mended.
func (f *Feed) Repairs() int { return f.repairs }

// fade clears faults that have not been seen for a while.
func (f *Feed) fade() {
	if len(f.faults) == 0 {
		return
	}
	now := f.now()
	for code, seen := range f.faults {
		if now-seen > faultFor {
			f.pub.Fault(code, "")
			delete(f.faults, code)
		}
	}
}

// learn264 tells the Stream what the new SPS says.
func (f *Feed) learn264(i int) {
	t := &f.tracks[i]
	info, err := h264.ParseSPS(t.h264.SPS())
	if err != nil {
		return
	}
	t.Width, t.Height, t.Profile = info.Width, info.Height, info.ProfileLevelID
	f.pub.Update(uint8(i), t.Track)
	if info.Interlaced {
		f.Fault("interlaced", "pictures are interlaced: browsers do not deinterlace; send progressive pictures")
	}
}

func (f *Feed) learn265(i int, sps []byte) {
	t := &f.tracks[i]
	if w, h, ok := size265(sps); ok {
		t.Width, t.Height = w, h
		f.pub.Update(uint8(i), t.Track)
	}
}
