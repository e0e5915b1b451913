package media

import (
	"fmt"
	"sync"
	"time"
)

// A Codec names how a track is coded.
type Codec uint8

// The codecs that Gantry carries.
const (
	NoCodec Codec = iota
	H264
	H265
	AV1
	VP8
	VP9
	Opus
	AAC
)

var codecNames = [...]string{"none", "H264", "H265", "AV1", "VP8", "VP9", "opus", "AAC"}

// String returns the name as RTP payload formats write it ("H264", "opus").
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("Codec(%d)", uint8(c))
}

// Audio tells whether c codes sound.
func (c Codec) Audio() bool { return c == Opus || c == AAC }

// Video tells whether c codes pictures.
func (c Codec) Video() bool { return c != NoCodec && !c.Audio() }

// Packing tells what one Packet's Data is.
type Packing uint8

const (
	// AccessUnits: one whole coded picture (Annex B for H.264/H.265, one temporal unit for AV1) or one audio frame.
	AccessUnits Packing = iota
	// RTP: one RTP payload, without the RTP header.
	RTP
)

// A Track describes one coded track. It is comparable: equal Tracks continue each other without new negotiation.
type Track struct {
	Codec     Codec
	Packing   Packing
	ClockRate int    // RTP clock in Hz: 90000 for video, 48000 for Opus
	Channels  int    // audio only
	Width     int    // video only; 0: not known yet
	Height    int    // video only; 0: not known yet
	Profile   string // H.264: profile-level-id in hex (RFC 6184 §8.1); AAC: AudioSpecificConfig in hex; else empty
	RID       string // simulcast layer (RFC 8853), empty for a single encoding
	Bitrate   int    // target in bit/s, 0 when not known
}

// A Packet is an immutable piece of one coded track. Data is an access unit or one RTP payload, as Track.Packing says.
// Nobody writes to Data after handing it on, so it is shared freely.
type Packet struct {
	Track    uint8 // index into the tracks it was announced with
	PTS, DTS time.Duration
	Start    bool // first piece of its access unit
	End      bool // last piece of its access unit
	Key      bool // of an access unit at which decoding can begin; parameter sets are in band
	Lost     bool // something is missing before this piece
	Data     []byte
}

// Feedback travels against the media, from whoever receives it towards the encoder.
type Feedback struct {
	KeyFrame bool   // somebody cannot decode until the next key frame
	Tracks   uint64 // bit set of the tracks of which it is wanted, by their index; 0: of all video
	Bitrate  int    // bits per second that the path can carry; 0 is no opinion
}

// Merge returns f followed by g: a key frame stays wanted, of all the tracks that either names, the newer bitrate wins.
func (f Feedback) Merge(g Feedback) Feedback {
	switch {
	case f.KeyFrame && g.KeyFrame && (f.Tracks == 0 || g.Tracks == 0):
		f.Tracks = 0
	case g.KeyFrame:
		f.Tracks |= g.Tracks
	}
	f.KeyFrame = f.KeyFrame || g.KeyFrame
	if g.Bitrate != 0 {
		f.Bitrate = g.Bitrate
	}
	return f
}

// A Mailbox merges Feedback from many for one receiver. Put never blocks.
type Mailbox struct {
	mu    sync.Mutex
	held  Feedback
	ready chan struct{}
}

// NewMailbox returns an empty Mailbox.
func NewMailbox() *Mailbox { return &Mailbox{ready: make(chan struct{}, 1)} }

// Put merges f into what is held.
func (m *Mailbox) Put(f Feedback) {
	if f == (Feedback{}) {
		return
	}
	m.mu.Lock()
	m.held = m.held.Merge(f)
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// Ready delivers a value after Put; call Take then.
func (m *Mailbox) Ready() <-chan struct{} { return m.ready }

// Take returns what was put since the last Take and empties the Mailbox.
func (m *Mailbox) Take() Feedback {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.held
	m.held = Feedback{}
	return f
}
