package rtsp

import (
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	mch264 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	mch265 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/pion/rtp"

	"gantry/internal/clock"
	"gantry/media"
	"gantry/media/h264"
)

// A unit is one access unit, and where it lies in its track's own time.
type unit struct {
	data  []byte
	key   bool
	delay int64 // ticks from decoding to showing it
	after int64 // ticks after the RTP packet's time: of further audio frames in one packet
}

// An unpacker gathers RTP packets into access units. It is given each packet with its time in ticks.
type unpacker func(p *rtp.Packet, pts int64) []unit

// open returns what unpacks a format, nil for one that is not passed on.
func open(f format.Format) (media.Track, unpacker, error) {
	rate := f.ClockRate()
	switch f := f.(type) {
	case *format.H264:
		d, err := f.CreateDecoder()
		if err != nil {
			return media.Track{}, nil, err
		}
		track := media.Track{Codec: media.H264, ClockRate: 90000}
		if len(f.SPS) > 3 {
			track.Profile = hex.EncodeToString(f.SPS[1:4])
		}
		sps, pps := f.SafeParams()
		var dts *mch264.DTSExtractor
		return track, func(p *rtp.Packet, pts int64) []unit {
			au, err := d.Decode(p)
			if err != nil { // more packets are needed, or one was lost
				return nil
			}
			key := mch264.IsRandomAccess(au)
			au = complete(au, key, [][]byte{sps, pps}, func(n []byte) bool { return mch264.NALUType(n[0]&0x1f) == mch264.NALUTypeSPS })
			if key && dts == nil {
				dts = &mch264.DTSExtractor{}
				dts.Initialize()
			}
			return video(au, key, pts, dts != nil, func() (int64, error) { return dts.Extract(au, pts) })
		}, nil
	case *format.H265:
		d, err := f.CreateDecoder()
		if err != nil {
			return media.Track{}, nil, err
		}
		vps, sps, pps := f.SafeParams()
		var dts *mch265.DTSExtractor
		return media.Track{Codec: media.H265, ClockRate: 90000}, func(p *rtp.Packet, pts int64) []unit {
			au, err := d.Decode(p)
			if err != nil {
				return nil
			}
			key := mch265.IsRandomAccess(au)
			au = complete(au, key, [][]byte{vps, sps, pps}, func(n []byte) bool { return mch265.NALUType(n[0]>>1&0x3f) == mch265.NALUType_SPS_NUT })
			if key && dts == nil {
				dts = &mch265.DTSExtractor{}
				dts.Initialize()
			}
			return video(au, key, pts, dts != nil, func() (int64, error) { return dts.Extract(au, pts) })
		}, nil
	case *format.MPEG4Audio:
		d, err := f.CreateDecoder()
		if err != nil || f.Config == nil {
			return media.Track{}, nil, err
		}
		config, err := f.Config.Marshal()
		if err != nil {
			return media.Track{}, nil, fmt.Errorf("AAC configuration: %w", err)
		}
		track := media.Track{Codec: media.AAC, ClockRate: rate, Channels: f.Config.ChannelCount, Profile: hex.EncodeToString(config)}
		return track, func(p *rtp.Packet, _ int64) (list []unit) {
			frames, err := d.Decode(p)
			if err != nil {
				return nil
			}
			for i, b := range frames {
				list = append(list, unit{data: b, key: true, after: int64(i) * 1024})
			}
			return list
		}, nil
	case *format.Opus:
		d, err := f.CreateDecoder()
		return media.Track{Codec: media.Opus, ClockRate: 48000, Channels: f.ChannelCount}, func(p *rtp.Packet, _ int64) []unit {
			b, err := d.Decode(p)
			if err != nil {
				return nil
			}
			return []unit{{data: b, key: true}}
		}, err
	}
	return media.Track{}, nil, nil
}

// complete puts the description's parameter sets before a key frame that has none.
func complete(au [][]byte, key bool, sets [][]byte, isSet func([]byte) bool) [][]byte {
	if !key {
		return au
	}
	for _, n := range au {
		if len(n) > 0 && isSet(n) {
			return au
		}
	}
	var all [][]byte
	for _, n := range sets {
		if len(n) > 0 {
			all = append(all, n)
		}
	}
	return append(all, au...)
}

func video(au [][]byte, key bool, pts int64, timed bool, extract func() (int64, error)) []unit {
	u := unit{key: key}
	for _, n := range au {
		u.data = h264.Append(u.data, n)
	}
	if timed {
		if dts, err := extract(); err == nil {
			u.delay = max(pts-dts, 0)
		}
	}
	return []unit{u}
}

// receiver returns what takes a track's packets off the connection.
func (r *session) receiver(index uint8, track media.Track, m *description.Media, unpack unpacker) gortsplib.OnPacketRTPFunc {
	rate := int64(track.ClockRate)
	last, begun := time.Duration(0), false
	return func(p *rtp.Packet) {
		pts, ok := r.client.PacketPTS(m, p)
		if !ok {
			return
		}
		for _, u := range unpack(p, pts) {
			if !r.begun(track, u.key) {
				continue
			}
			wall, known := r.client.PacketNTP(m, p)
			at := r.clock.at(seconds(pts, rate), wall, known, clock.Now()) + seconds(u.after, rate)
			dts := at - seconds(u.delay, rate)
			if begun && dts <= last { // its clock was set, or reports disagree by a little
				dts = last + time.Millisecond/10
				at = max(at, dts)
			}
			last, begun = dts, true
			r.queue.Push(&media.Packet{Track: index, PTS: at, DTS: dts, Start: true, End: true, Key: u.key, Data: u.data})
		}
	}
}

// begun drops pictures before the first key frame.
func (r *session) begun(track media.Track, key bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if track.Codec.Video() && key {
		r.waiting = false
	}
	return !track.Codec.Video() || !r.waiting
}

func seconds(ticks, rate int64) time.Duration {
	return time.Duration(ticks/rate)*time.Second + time.Duration(ticks%rate)*time.Second/time.Duration(rate)
}

// A timeline brings the tracks of one source onto CLOCK_MONOTONIC: on the server's clock they lie to each other as they come until its
// sender reports (RFC 3550 §6.4.1) tell how they do, and by those from then on; that clock is then followed as it drifts.
type timeline struct {
	mu      sync.Mutex
	follow  clock.Follower
	started bool
	base    time.Duration // of media time 0
	synced  bool
	wall    time.Time     // by the server's clock,
	mono    time.Duration // when its media time, with base, was this
}

func (t *timeline) at(pts time.Duration, wall time.Time, known bool, now time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.started {
		t.started, t.base = true, now-pts
	}
	at := t.base + pts
	if known {
		if !t.synced { // no jump of this track; the others come to it
			t.synced, t.wall, t.mono = true, wall, at
		}
		at = t.mono + wall.Sub(t.wall)
	}
	return t.follow.At(at, now)
}
