package pipeline

import (
	"encoding/hex"
	"time"

	"gantry/internal/clock"
	"gantry/media"
)

// A quiet is where one coding of the source's sound stands, so that silence can follow it without a seam.
type quiet struct {
	end    time.Duration // of the newest packet
	silent time.Duration // end of the silence that stood in; nothing older follows it
	begun  bool
}

// silentFrame returns a coded frame of silence and how long it lasts; nil: it is not known how.
func silentFrame(t media.Track) (frame []byte, long time.Duration) {
	switch t.Codec {
	case media.Opus: // RFC 6716 §3.1: CELT, fullband, 20 ms, mono, which every decoder of stereo takes
		return []byte{0xf8, 0xff, 0xfe}, 20 * time.Millisecond
	case media.AAC:
		config, err := hex.DecodeString(t.Profile)
		if err != nil || len(config) != 2 || config[0]>>3 != 2 || config[1]&4 != 0 || t.ClockRate <= 0 { // not LC with 1024 samples a frame
			return nil, 0
		}
		long = 1024 * time.Second / time.Duration(t.ClockRate)
		switch t.Channels { // ISO/IEC 14496-3 §4.4.2.1: elements without a scale factor band, and their end
		case 1:
			return []byte{0, 0, 0, 0x07}, long
		case 2:
			return []byte{0x21, 0, 0, 0, 0, 0x1c}, long
		}
	}
	return nil, 0
}

// sing sends a packet of the source's sound, unless silence has stood in for it.
func (p *passing) sing(pkt *media.Packet, codec media.Codec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.quiet[codec]
	if q.begun && pkt.PTS < q.silent {
		return
	}
	if len(p.sounds) > 0 && codec == p.sounds[0].Codec {
		p.heard.add(clock.Now(), len(pkt.Data))
	}
	q.end, q.begun = pkt.PTS, true
	p.quiet[codec] = q
	p.fanout.push(pkt, codec)
}

// silence sends silence where the source's sound has been, up to a little before the slate's PTS: what is only late is still heard.
func (p *passing) silence(pts time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.sounds {
		frame, long := silentFrame(t)
		q := p.quiet[t.Codec]
		if frame == nil || !q.begun || !p.fanout.wants(t.Codec) {
			continue
		}
		until := pts - tardy
		if until-q.end > leap {
			q.end = until - long
		}
		for q.end+2*long <= until { // the newest packet itself lasts long
			q.end += long
			q.silent = q.end + long
			p.fanout.push(&media.Packet{PTS: q.end, DTS: q.end, Start: true, End: true, Key: true, Data: frame}, t.Codec)
		}
		p.quiet[t.Codec] = q
	}
}

// sound is the AudioStatus of sound that the source brings.
func (p *passing) sound(name string, now time.Duration) AudioStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := AudioStatus{Name: name, Passed: true}
	st.Packets, _, _, st.Bitrate = p.heard.read(now)
	if len(p.sounds) == 0 {
		st.Reason = "the source has brought no sound"
		return st
	}
	st.Format = media.AudioFormat{Rate: p.sounds[0].ClockRate, Channels: p.sounds[0].Channels}
	for _, t := range p.sounds {
		if p.fanout.wants(t.Codec) {
			st.Codecs = append(st.Codecs, t.Codec)
		}
	}
	return st
}
