package whep

import (
	"bytes"
	"math/bits"
	"time"

	"github.com/pion/rtcp"
)

// reportEvery is the time between two sender reports of a track (RFC 3550 §6.2 allows as much for a small session). The first ones
// follow each other at every tick: browsers look once a second for a new report of each track, and can tell how sound and
// picture belong together when they have found two.
const (
	reportEvery  = time.Second
	firstReports = 15
)

// reports sends v the sender reports that are due.
func (f *fan) reports(v *viewer, now time.Time) {
	for _, o := range v.out {
		if o != nil && o.packets > 0 && (o.report.count < firstReports || now.Sub(o.report.sent) >= reportEvery) {
			f.report(v, o, now)
		}
	}
}

// report sends one sender report. Its pair of NTP and RTP time is the capture of the newest packet, moved on to now, so that
// a viewer that asks for round trip times by it gets them.
func (f *fan) report(v *viewer, o *outTrack, now time.Time) {
	newest := o.history.newest
	captured := o.history.zero.Add(newest)
	// How far the stream's time has gone on since: the packet has just been here, or the stream stands still.
	since := min(max(now.Sub(o.history.arrived), 0), 10*time.Second)
	ntp := ntpTime(captured.Add(since))
	o.report = report{sent: now, mid: uint32(ntp >> 16), count: o.report.count + 1}
	f.sendRTCP(v, []rtcp.Packet{
		&rtcp.SenderReport{SSRC: o.ssrc, NTPTime: ntp, RTPTime: o.base + rtpTime(newest+since, o.history.track.ClockRate),
			PacketCount: o.packets, OctetCount: o.octets},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{Source: o.ssrc,
			Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: v.session.plan.cname}}}}},
	})
}

// bye tells v that nothing more will come.
func (f *fan) bye(v *viewer) {
	var gone rtcp.Goodbye
	for _, o := range v.out {
		if o != nil {
			gone.Sources = append(gone.Sources, o.ssrc)
		}
	}
	f.sendRTCP(v, []rtcp.Packet{&rtcp.ReceiverReport{}, &gone})
}

func (f *fan) sendRTCP(v *viewer, packets []rtcp.Packet) {
	if !v.path.Valid() {
		return
	}
	plain, err := rtcp.Marshal(packets)
	if err != nil {
		return
	}
	sealed, err := v.rtcp.EncryptRTCP(nil, plain, nil)
	if err != nil {
		return
	}
	if v.path.UDP() {
		f.batch.To(&v.path, v.slot)
	}
	f.put(v, append(f.room(v, len(sealed)), sealed...))
}

// nack has lost packets of o sent again.
func (f *fan) nack(v *viewer, ssrc uint32, pairs []rtcp.NackPair) {
	for _, o := range v.out {
		if o == nil || o.ssrc != ssrc || !o.nack || !v.path.Valid() {
			continue
		}
		if v.path.UDP() {
			f.batch.To(&v.path, v.slot)
		}
		for _, p := range pairs {
			v.resend(f, o, p.PacketID)
			for m := p.LostPackets; m != 0; m &= m - 1 {
				v.resend(f, o, p.PacketID+1+uint16(bits.TrailingZeros16(uint16(m))))
			}
		}
	}
}

// hear takes a viewer's RTCP. It runs on the socket's reader: what concerns the fan becomes a task.
func (s *session) hear(b []byte) {
	v := s.viewer.Load()
	if v == nil {
		return
	}
	if isFeedback(b) {
		s.feedback(v, bytes.Clone(b))
		return
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.TransportLayerNack:
			s.fan.do(false, func() {
				f := s.fan
				f.count.NACKs++
				f.nack(v, p.MediaSSRC, p.Nacks)
			})
		case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
			s.fan.do(false, func() {
				s.fan.count.PLIs++
				if v.video != nil && !v.link.content(v.video.history, time.Now()) {
					s.fan.wantKey(v.video.history)
				}
			})
		case *rtcp.ReceiverReport:
			s.loss(v, p.Reports)
		case *rtcp.SenderReport: // of a client that takes a sendrecv offer literally
			s.loss(v, p.Reports)
		case *rtcp.TransportLayerCC: // beside others
			if b, err := p.Marshal(); err == nil {
				s.feedback(v, b)
			}
		case *rtcp.ReceiverEstimatedMaximumBitrate:
			told := int(min(max(p.Bitrate, 0), 1e9))
			s.fan.do(false, func() { v.link.told = told })
		case *rtcp.Goodbye:
			s.end(errBye)
			return
		}
	}
}

// loss notes what a viewer reports about its reception.
func (s *session) loss(v *viewer, reports []rtcp.ReceptionReport) {
	now := time.Now()
	s.fan.do(false, func() {
		for _, r := range reports {
			for _, o := range v.out {
				if o == nil || o.ssrc != r.SSRC {
					continue
				}
				q := Quality{Lost: float64(r.FractionLost) / 256, Jitter: time.Duration(r.Jitter) * time.Second / time.Duration(o.history.track.ClockRate)}
				if r.LastSenderReport != 0 && r.LastSenderReport == o.report.mid {
					q.RTT = max(0, now.Sub(o.report.sent)-time.Duration(r.Delay)*time.Second/65536)
				}
				s.noteQuality(o == v.video, q)
				if o == v.video {
					v.adapter.hear(now, q.Lost, q.RTT)
				}
			}
		}
	})
}
