package relay

import (
	"time"

	"gantry/media"
)

// Info is what the relay knows of one stream, as its API shows it.
type Info struct {
	Name       string      `json:"name"`
	Live       bool        `json:"live"`
	Since      time.Time   `json:"since"` // when the stream began
	Viewers    int         `json:"viewers"`
	Dropped    uint64      `json:"droppedPackets"` // that consumers were too slow for
	Publishers []Published `json:"publishers"`
}

// Published describes one publisher of a stream.
type Published struct {
	ID       string      `json:"id"`
	Active   bool        `json:"active"`
	Chosen   bool        `json:"chosen,omitempty"`  // by the API
	Damaged  bool        `json:"damaged,omitempty"` // much was missing lately: others come first
	Protocol string      `json:"protocol"`
	Remote   string      `json:"remote"`
	Priority int         `json:"priority"`
	Since    time.Time   `json:"since"`
	Tracks   []TrackInfo `json:"tracks"`
	Faults   []Fault     `json:"faults,omitempty"`
}

// TrackInfo describes one track of a publisher, with figures of the last second.
type TrackInfo struct {
	Codec       string  `json:"codec"`
	Profile     string  `json:"profile,omitempty"`
	RID         string  `json:"rid,omitempty"`
	Width       int     `json:"width,omitempty"`
	Height      int     `json:"height,omitempty"`
	Channels    int     `json:"channels,omitempty"`
	Rate        float64 `json:"rate"`    // access units a second
	Bitrate     int     `json:"bitrate"` // bit/s of payload
	Packets     uint64  `json:"packets"`
	Frames      uint64  `json:"frames"` // access units
	KeyFrames   uint64  `json:"keyFrames"`
	Lost        uint64  `json:"lost"` // gaps
	KeyInterval float64 `json:"keyFrameInterval,omitempty"`
}

// A Fault names something wrong with what is published.
type Fault struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

func (s *Stream) info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := Info{Name: s.name, Live: s.active != nil, Since: s.since, Publishers: []Published{}}
	for _, f := range s.forms {
		for _, sub := range f.subs {
			i.Viewers += int(sub.viewers.Load())
			i.Dropped += sub.queue.Dropped()
		}
	}
	now := s.hub.elapsed()
	for _, p := range s.pubs {
		d := Published{ID: p.id, Active: p == s.active, Chosen: p == s.chosen, Damaged: now-p.damaged < damageHeals,
			Protocol: p.publisher.Protocol, Remote: p.publisher.Remote, Priority: p.priority, Since: p.since, Faults: append([]Fault(nil), p.faults...)}
		if p == s.active {
			d.Faults = append(d.Faults, s.unheard()...)
		}
		for n, t := range p.tracks {
			d.Tracks = append(d.Tracks, p.stats[n].info(t, now))
		}
		i.Publishers = append(i.Publishers, d)
	}
	return i
}

// counter adds up one track; rates are those of the last whole second.
type counter struct {
	packets, frames, keys, lost uint64
	bytes                       uint64
	lastKey, keyEvery           time.Duration // on the publisher's timeline

	second      time.Duration // elapsed() when the current second began
	bytesBefore uint64
	framesThen  uint64
	lostThen    uint64
	bitrate     int
	rate        float64
}

// count tells whether a second has just ended in which one access unit in damagedShare was damaged.
func (c *counter) count(p *media.Packet, now time.Duration) (damaged bool) {
	c.packets++
	c.bytes += uint64(len(p.Data))
	if p.Lost {
		c.lost++
	}
	if p.Start {
		c.frames++
		if p.Key {
			if c.keys > 0 {
				c.keyEvery = p.PTS - c.lastKey
			}
			c.keys++
			c.lastKey = p.PTS
		}
	}
	if d := now - c.second; d >= time.Second {
		c.bitrate = int(float64(c.bytes-c.bytesBefore) * 8 / d.Seconds())
		c.rate = float64(c.frames-c.framesThen) / d.Seconds()
		lost := c.lost - c.lostThen
		damaged = c.second != 0 && lost >= 2 && lost*damagedShare >= c.frames-c.framesThen
		c.second, c.bytesBefore, c.framesThen, c.lostThen = now, c.bytes, c.frames, c.lost
	}
	return damaged
}

// damagedShare is which share of a second's access units may be damaged before a publisher in better health is preferred.
const damagedShare = 10

func (c *counter) info(t media.Track, now time.Duration) TrackInfo {
	i := TrackInfo{Codec: t.Codec.String(), Profile: t.Profile, RID: t.RID, Width: t.Width, Height: t.Height, Channels: t.Channels,
		Rate: c.rate, Bitrate: c.bitrate, Packets: c.packets, Frames: c.frames, Lost: c.lost}
	if t.Codec.Video() {
		i.KeyFrames, i.KeyInterval = c.keys, c.keyEvery.Seconds()
	}
	if now-c.second > 3*time.Second {
		i.Rate, i.Bitrate = 0, 0
	}
	return i
}
