package whip

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	pacerBurst   = 5 * time.Millisecond   // what may go out at once: timers are no finer, and each wake-up costs
	pacerRoom    = 250 * time.Millisecond // of queued video at which the transmitter waits, so that the Program's queue drops
	captureEvery = 500 * time.Millisecond // abs-capture-time, besides key frames; its specification asks for a second
	reportEvery  = time.Second
	videoHistory = 1024 // packets: 1.2 MB, two seconds at 5 Mbit/s
	audioHistory = 64   // packets: a second and a quarter
	maxRTXQueue  = 256
	fillBurst    = 50 * time.Millisecond // over which what is sent is made up to the rate to fill
	fillBytes    = 600                   // of a packet that is worth repeating for that
	maxResends   = 8                     // of one packet: a receiver that asks on does not see what it gets
)

// A packet waits in the pacer. Its payload is never written to.
type packet struct {
	lane     *lane
	payload  []byte
	ts       uint32
	seq      uint16 // once sent; retransmissions: of the original
	resend   bool
	numbered bool // seq is given: it is the same on all paths of a Bond
	filler   bool // resent though nobody asked, to put the path to the test
	marker   bool
	mark     bool          // carries abs-capture-time
	pts      time.Duration // of its access unit
}

// A lane is the sending half of one stream: what numbers and counters its packets need. Only the pacer's goroutine touches it,
// but for history.
type lane struct {
	stream  *stream
	write   interceptor.RTPWriter
	seq     uint16
	rtxSeq  uint16
	packets uint32 // sent, without retransmissions (RFC 3550 §6.4.1)
	octets  uint32
	newest  time.Duration // PTS of the access unit sent last
	marked  time.Duration // PTS of the one that said last when it was captured; the transmitter's

	reported    time.Time // of the last sender report
	reportedPTS time.Duration
	history     history // video only
}

// A pacer sends packets at a steady rate instead of a picture at a time: bursts overflow buffers on the way. Audio passes at
// once; retransmissions go before video, but take at most every other turn from it.
type pacer struct {
	wall     func(time.Duration) time.Time
	report   func([]rtcp.Packet) error
	departed func(departure) // called before each packet
	cname    string
	count    *counters

	mu     sync.Mutex
	queues [3][]*packet // audio, retransmissions, video
	queued int          // bytes of video
	resent bool         // the paced packet before was a retransmission
	rate   int          // bit/s
	wake   chan struct{}
	room   chan struct{}

	// of run
	transport uint16 // next TWCC sequence number
	filling
	header  rtp.Header
	scratch struct {
		twcc    [2]byte
		capture [16]byte
	}
}

// A filling makes what is sent up to a rate, by repeats.
type filling struct {
	fill int       // bit/s; 0: not; guarded by the pacer's mutex
	paid time.Time // up to when that was sent
	last *packet   // newest of video that may be sent again by RTX
}

const (
	audioQueue = iota
	rtxQueue
	videoQueue
)

func newPacer(rate int, count *counters) *pacer {
	return &pacer{rate: rate, count: count, departed: func(departure) {}, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// setRate sets the rates and returns how many bits of video wait.
func (p *pacer) setRate(rate, fill int) (backlog int) {
	p.mu.Lock()
	more := fill > p.fill
	p.rate, p.fill = rate, fill
	backlog = 8 * p.queued
	p.mu.Unlock()
	notify(p.room)
	if more {
		notify(p.wake)
	}
	return backlog
}

// put hands packets over; they are sent in order. It never blocks.
func (p *pacer) put(queue int, packets ...*packet) {
	p.mu.Lock()
	p.queues[queue] = append(p.queues[queue], packets...)
	if queue == videoQueue {
		for _, pkt := range packets {
			p.queued += len(pkt.payload)
		}
	}
	for len(p.queues[rtxQueue]) > maxRTXQueue { // the oldest are the least useful
		p.queues[rtxQueue][0].forget()
		p.queues[rtxQueue] = p.queues[rtxQueue][1:]
	}
	p.mu.Unlock()
	notify(p.wake)
}

// wait blocks while the queued video takes longer than pacerRoom to send.
func (p *pacer) wait(ctx context.Context) {
	for {
		p.mu.Lock()
		full := p.full()
		p.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-p.room:
		case <-ctx.Done():
			return
		}
	}
}

func (p *pacer) full() bool { return transmission(p.queued, p.rate) > pacerRoom }

// clear drops what waits: after an interruption it is too old.
func (p *pacer) clear() {
	p.mu.Lock()
	for _, pkt := range p.queues[rtxQueue] {
		pkt.forget()
	}
	p.queues = [3][]*packet{}
	p.queued = 0
	p.mu.Unlock()
	notify(p.room)
}

// next takes the packet to send now, or says how long to wait; 0 is until something comes. due is when the paced queues may
// send again, and is moved on.
func (p *pacer) next(now time.Time, due *time.Time) (*packet, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for queue := range p.queues {
		waiting := p.queues[queue]
		if len(waiting) == 0 || queue == rtxQueue && p.resent && len(p.queues[videoQueue]) > 0 {
			continue
		}
		if queue != audioQueue && due.After(now) {
			return nil, max(due.Sub(now), pacerBurst/2)
		}
		pkt := waiting[0]
		waiting[0] = nil
		if p.queues[queue] = waiting[1:]; len(waiting) == 1 {
			p.queues[queue] = nil
		}
		p.spend(now, due, len(pkt.payload))
		if queue != audioQueue {
			p.resent = queue == rtxQueue
		}
		if queue == videoQueue {
			if p.queued -= len(pkt.payload); !p.full() {
				notify(p.room)
			}
		}
		return pkt, 0
	}
	if p.fill == 0 || p.last == nil {
		return nil, 0
	}
	if wait := max(due.Sub(now), p.paid.Sub(now)); wait > 0 {
		return nil, max(wait, pacerBurst/2)
	}
	again := *p.last
	again.resend, again.filler, again.mark = true, true, false
	p.spend(now, due, len(again.payload))
	return &again, 0
}

// spend moves the times from which on more may be sent.
func (p *pacer) spend(now time.Time, due *time.Time, payload int) {
	size := payload + rtpHeader + 8
	if earliest := now.Add(-pacerBurst); due.Before(earliest) {
		*due = earliest
	}
	*due = due.Add(transmission(size, p.rate))
	if p.fill == 0 {
		return
	}
	if earliest := now.Add(-fillBurst); p.paid.Before(earliest) {
		p.paid = earliest
	}
	p.paid = p.paid.Add(transmission(size, p.fill))
}

// run sends until ctx ends.
func (p *pacer) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var due time.Time
	for ctx.Err() == nil {
		pkt, wait := p.next(time.Now(), &due)
		if pkt != nil {
			p.send(pkt)
			continue
		}
		var elapsed <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			elapsed = timer.C
		}
		select {
		case <-p.wake:
		case <-elapsed:
		case <-ctx.Done():
		}
	}
}

// send puts one packet on the wire: numbers and header extensions are given here, so that they follow the order of sending.
// Errors are losses: pion reports a broken path by its state.
func (p *pacer) send(pkt *packet) {
	l, w := pkt.lane, &pkt.lane.stream.wire
	h := &p.header
	*h = rtp.Header{Version: 2, Extensions: h.Extensions[:0], Timestamp: pkt.ts, Marker: pkt.marker, SSRC: w.ssrc, PayloadType: w.payloadType}
	payload := pkt.payload
	switch {
	case pkt.resend && w.rtxType != 0: // RFC 4588 §4
		payload = append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(payload)), pkt.seq), payload...)
		h.SSRC, h.PayloadType, h.SequenceNumber = w.rtxSSRC, w.rtxType, l.rtxSeq
		l.rtxSeq++
	case pkt.resend:
		h.SequenceNumber = pkt.seq
	default:
		if !pkt.numbered {
			pkt.seq = l.seq
			l.seq++
		}
		h.SequenceNumber = pkt.seq
		l.history.add(pkt.seq, pkt)
		if w.rtxType != 0 && len(payload) >= fillBytes {
			p.last = pkt
		}
		l.packets++
		l.octets += uint32(len(payload))
		l.newest = pkt.pts
	}
	if w.twcc != 0 {
		binary.BigEndian.PutUint16(p.scratch.twcc[:], p.transport)
		p.transport++
		_ = h.SetExtension(w.twcc, p.scratch.twcc[:])
	}
	l.stream.identify(h, pkt)
	if pkt.mark && w.capture != 0 {
		_ = h.SetExtension(w.capture, captureMark(&p.scratch.capture, ntp(p.wall(pkt.pts))))
	}
	size := h.MarshalSize() + len(payload)
	var again *lane
	if pkt.resend {
		l.history.left(pkt.seq, time.Now())
	}
	if w.twcc != 0 {
		if w.rtxType != 0 && !pkt.filler {
			again = l
		}
		p.departed(departure{seq: p.transport - 1, bytes: size, lane: again, original: pkt.seq})
	}
	n, err := l.write.Write(h, payload, nil)
	p.count.sent(pkt, size, n, err)
	if now := time.Now(); now.Sub(l.reported) >= reportEvery && l.newest != l.reportedPTS {
		p.sendReport(l, now)
	}
}

// sendReport sends the lane's sender report (RFC 3550 §6.4.1). It pairs the RTP timestamp of the newest access unit with the
// wall time of its capture, so that a receiver can tell when any picture or sound was taken.
func (p *pacer) sendReport(l *lane, now time.Time) {
	l.reported, l.reportedPTS = now, l.newest
	at := ntp(p.wall(l.newest))
	p.count.reported(l.stream.wire.ssrc, uint32(at>>16), now)
	_ = p.report([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: l.stream.wire.ssrc, NTPTime: at, RTPTime: l.stream.clock.at(l.newest), PacketCount: l.packets, OctetCount: l.octets},
		rtcp.NewCNAMESourceDescription(l.stream.wire.ssrc, p.cname),
	})
}

// transmission returns how long n bytes take at rate bit/s.
func transmission(n, rate int) time.Duration {
	return time.Duration(int64(n) * 8 * int64(time.Second) / int64(max(rate, 1)))
}

// notify fills a channel of one place.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// A history holds the packets sent last, for retransmission (RFC 4585 §6.2.1).
type history struct {
	mu      sync.Mutex
	packets []sentPacket // index: sequence number modulo the length
}

type sentPacket struct {
	pkt     *packet
	seq     uint16
	resent  time.Time
	times   int
	waiting bool // to be sent again
}

// forget says that a packet which waits to be sent again will not be.
func (p *packet) forget() { p.lane.history.left(p.seq, time.Time{}) }

func newHistory(kind webrtc.RTPCodecType) history {
	if kind == webrtc.RTPCodecTypeAudio {
		return history{packets: make([]sentPacket, audioHistory)}
	}
	return history{packets: make([]sentPacket, videoHistory)}
}

func (h *history) add(seq uint16, pkt *packet) {
	h.mu.Lock()
	h.packets[int(seq)%len(h.packets)] = sentPacket{pkt: pkt, seq: seq}
	h.mu.Unlock()
}

// left notes when a packet was sent again, as get had given it out for.
func (h *history) left(seq uint16, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := &h.packets[int(seq)%len(h.packets)]; s.seq == seq {
		s.waiting, s.resent = false, at
	}
}

// arrived notes that a packet which was sent again has come: some receivers go on asking for it.
func (h *history) arrived(seq uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := &h.packets[int(seq)%len(h.packets)]; s.seq == seq {
		s.times = maxResends
	}
}

// get returns a packet to send again, nil if it is gone, waits for that already, was sent again less than quiet ago, so that its
// copy is on the way, or too often, or has arrived.
func (h *history) get(seq uint16, now time.Time, quiet time.Duration) *packet {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.packets[int(seq)%len(h.packets)]
	if s.pkt == nil || s.seq != seq || s.waiting || now.Sub(s.resent) < quiet || s.times == maxResends {
		return nil
	}
	s.waiting = true
	s.times++
	again := *s.pkt
	again.seq, again.resend, again.mark = seq, true, false
	return &again
}
