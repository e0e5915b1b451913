package whip

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	proto "gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/media"
)

// Why sessions end.
var (
	errConsent = errors.New("the publisher does not answer any more")
	errLeft    = errors.New("the publisher closed the connection")
	errNoMedia = errors.New("no media came")
	errClosed  = errors.New("session closed")
)

const (
	busy      = 5 * time.Millisecond // between looks at a session while packets are missing
	idle      = time.Second          // and otherwise
	mediaTime = 30 * time.Second     // from the answer to the first packet
)

// A session is one publisher: its peer, its tracks and its Publication.
//
//	answered ──first packet──▶ publishing ──closed, replaced, no consent, left──▶ ended
type session struct {
	server   *Server
	log      *slog.Logger
	stream   string
	remote   netip.AddrPort
	priority int
	bond     bonding
	born     time.Time

	peer *rtc.Peer
	mid  string // the section whose transport all share

	ending chan error    // why; the first counts
	kick   chan struct{} // look after the tracks now
	done   chan struct{}
	path
	outbound
}

// A path is how a session's packets go.
type path struct {
	mu       sync.Mutex // held while packets are taken
	tracks   []*track
	pub      publication   // nil before the first packet
	heard    time.Duration // the first packet
	ended    bool
	sources  map[uint32]source
	feedback *media.Mailbox // from the Hub
	rtt      time.Duration
	ssrc     uint32 // ours, in RTCP
	firs     uint8  // sequence number of FIR (RFC 5104 §4.3.1.1)
	nacks    []uint16
}

// now is the session's clock.
func (s *session) now() time.Duration { return time.Since(s.born) }

// An outbound is what the session tells its publisher. The tracks' mutex guards what packets change.
type outbound struct {
	seal       atomic.Pointer[srtp.Context] // nil before the handshake is done
	transport  uint8                        // header extension that numbers all packets; 0: not negotiated
	congestion *twcc.Recorder
	told       time.Duration // the last of the feedback on these
	reported   time.Duration // the last receiver report
	sealed     []byte
}

// negotiate answers an offer.
func (s *session) negotiate(o *offer) (answer string, err error) {
	for _, sec := range o.sections {
		for _, c := range sec.choices {
			if sec.extensions.transport != 0 && slices.Contains(c.params.feedback, "transport-cc") {
				s.transport = sec.extensions.transport
			}
		}
	}
	if s.transport != 0 {
		s.congestion = twcc.NewRecorder(s.ssrc)
	}
	if s.peer, err = s.server.port.NewPeer(rtc.Events{Connected: s.connected, Path: func(rtc.Path) {}, RTP: s.media, RTCP: s.control}); err != nil {
		return "", err
	}
	if o.passive {
		s.peer.Initiate()
	}
	local, err := s.peer.Local()
	if err == nil {
		answer, err = o.answer(local, s.server.port.Lite())
	}
	if err != nil {
		_ = s.peer.Close()
	}
	return answer, err
}

// connected runs when the handshake is done.
func (s *session) connected(keys rtc.Keys) {
	seal, err := keys.SealRTCP()
	if err != nil {
		s.end(err)
		return
	}
	s.seal.Store(seal)
	s.log.Debug("publisher connected", "stream", s.stream, "srtp", keys.String())
}

// Trickle implements proto.Session. Names that do not resolve and transports that are not ours are dropped in silence (RFC 9725
// §4.3.1).
func (s *session) Trickle(f proto.Fragment) error {
	for _, c := range f.Candidates {
		s.peer.AddCandidate(c.Value)
	}
	return nil
}

// Restart implements proto.Session (RFC 9725 §4.3.3).
func (s *session) Restart(f proto.Fragment) (proto.Fragment, error) {
	remote := rtc.Parameters{Ufrag: f.Ufrag, Pwd: f.Pwd}
	for _, c := range f.Candidates {
		remote.Candidates = append(remote.Candidates, c.Value)
	}
	local, err := s.peer.Restart(remote)
	if err != nil {
		return proto.Fragment{}, err
	}
	s.log.Info("ICE restarted", "stream", s.stream, "remote", s.remote)
	reply := proto.Fragment{Ufrag: local.Ufrag, Pwd: local.Pwd, Lite: s.server.port.Lite(), End: true}
	for _, c := range local.Candidates {
		reply.Candidates = append(reply.Candidates, proto.Candidate{MID: s.mid, Value: c})
	}
	return reply, nil
}

// Done implements proto.Session.
func (s *session) Done() <-chan struct{} { return s.done }

// Close implements proto.Session.
func (s *session) Close() error {
	s.end(errClosed)
	<-s.done
	return nil
}

// end makes run return; it does not block.
func (s *session) end(why error) {
	select {
	case s.ending <- why:
	default:
	}
}

// wake makes run look after the tracks now.
func (s *session) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run looks after the session until it ends, and then takes it apart.
func (s *session) run(remote rtc.Parameters) {
	defer close(s.done)
	ctx, cancel := context.WithCancel(context.Background())
	var connection sync.WaitGroup
	connection.Go(func() {
		err := s.peer.Run(ctx, remote)
		switch {
		case errors.Is(err, rtc.ErrLost):
			err = errConsent
		case errors.Is(err, rtc.ErrBye), err == nil:
			err = errLeft
		}
		s.end(err)
	})
	why := s.attend()
	s.mu.Lock()
	s.ended = true
	pub := s.pub
	s.mu.Unlock()
	if pub != nil {
		_ = pub.Close()
	}
	cancel()
	connection.Wait()
	s.server.counters.Sessions.Add(-1)
	s.log.Info("publisher's session ended", "stream", s.stream, "remote", s.remote, "reason", why, "dur", s.now().Round(time.Millisecond))
}

// attend sends what feedback the tracks need, gives up packets that waited too long, and returns why the session ends.
func (s *session) attend() error {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	var over <-chan struct{}
	var out []rtcp.Packet
	for {
		select {
		case why := <-s.ending:
			return why
		case <-over:
			if err := s.unpublished(); err != nil {
				return err
			}
		case <-s.feedback.Ready():
			if f := s.feedback.Take(); f.KeyFrame {
				s.wantKey(f.Tracks)
			}
		case <-s.kick:
		case <-timer.C:
		}
		now := s.now()
		if now-s.reported >= reportInterval {
			s.measure()
		}
		s.mu.Lock()
		if s.heard == 0 && now > mediaTime {
			s.mu.Unlock()
			return errNoMedia
		}
		var next time.Duration
		out, next = s.owed(out[:0], now)
		for _, t := range s.tracks {
			var soon time.Duration
			s.advance(t, now)
			out, soon = s.requests(t, now, out)
			next = min(next, soon)
		}
		over = nil
		if s.pub != nil {
			over = s.pub.Done()
		}
		s.mu.Unlock()
		s.tell(out)
		timer.Reset(next)
	}
}

// unpublished returns why the Hub ended the Publication, nil when the session has a new one or will have.
func (s *session) unpublished() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pub == nil {
		return nil
	}
	return s.pub.Err()
}

// wantKey asks the tracks in the bit set for a key frame; 0 is all video.
func (s *session) wantKey(tracks uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tracks {
		if t.info.Codec.Video() && (tracks == 0 || tracks&(1<<t.index) != 0) {
			t.needKey = true
			if s.now()-t.keyAsked > keyRetry/2 {
				t.keyAsked = 0
			}
		}
	}
}

// measure reads the round trip time that ICE's consent checks see.
func (s *session) measure() {
	rtt := s.peer.RoundTrip()
	if rtt <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rtt = rtt
}

// owed appends the reports that are due, and returns when to look again at the latest. The session is locked.
func (s *session) owed(out []rtcp.Packet, now time.Duration) ([]rtcp.Packet, time.Duration) {
	next := idle
	if now-s.reported >= reportInterval {
		s.reported = now
		if r := s.reports(now); r != nil {
			out = append(out, r)
		}
	}
	if s.congestion == nil || s.heard == 0 {
		return out, next
	}
	if now-s.told >= feedbackInterval {
		s.told = now
		if s.congestion.PacketsHeld() > 0 {
			out = append(out, s.congestion.BuildFeedbackPacket()...)
		}
	}
	return out, min(next, s.told+feedbackInterval-now)
}

// maxFeedback is how many bytes of RTCP go into one packet.
const maxFeedback = 1200

// tell sends feedback to the publisher.
func (s *session) tell(out []rtcp.Packet) {
	seal := s.seal.Load()
	if seal == nil || len(out) == 0 {
		return
	}
	b, err := rtcp.Marshal(out)
	if len(b) > maxFeedback && len(out) > 1 {
		for i := range out {
			s.tell(out[i : i+1])
		}
		return
	}
	if err == nil {
		b, err = seal.EncryptRTCP(s.sealed[:0], b, nil)
	}
	if err == nil {
		s.sealed = b
		err = s.peer.Write(b)
	}
	if err != nil {
		s.log.Debug("feedback not sent", "err", err)
	}
}

// media takes an RTP packet, on the socket's reader: nothing on its way to the Hub blocks.
func (s *session) media(b []byte, h *rtp.Header) {
	payload, ok := rtpPayload(b)
	if !ok {
		return
	}
	p := piece{seq: h.SequenceNumber, ts: h.Timestamp, marker: h.Marker, arrival: s.now()}
	s.mu.Lock()
	if s.congestion != nil {
		if x := h.GetExtension(s.transport); len(x) == 2 {
			s.congestion.Record(h.SSRC, binary.BigEndian.Uint16(x), p.arrival.Microseconds())
		}
	}
	from, ok := s.source(h, p.arrival)
	t := from.track
	if ok && !from.repair {
		begins := !t.reception.begun
		t.heard = p.arrival
		t.reception.packet(p.seq, p.ts, p.arrival, t.info.ClockRate)
		if begins {
			s.wake()
		}
	}
	known := ok && (!from.repair || t.sure) // the payload type of RTX is not the track's
	s.mu.Unlock()
	switch {
	case !known:
	case from.repair && len(payload) < 2: // padding that probes the path
	case from.repair: // the original's sequence number, then its payload (RFC 4588 §4)
		p.seq = binary.BigEndian.Uint16(payload)
		s.receive(t, t.choice.params.number, p, payload[2:])
	default:
		if id := t.section.capture; id != 0 {
			p.capture = captureTime(h.GetExtension(id))
		}
		s.receive(t, h.PayloadType, p, payload)
	}
}

// control takes a compound packet of RTCP, on the socket's reader.
func (s *session) control(b []byte) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, p := range packets {
		sr, ok := p.(*rtcp.SenderReport)
		if !ok {
			continue
		}
		s.mu.Lock()
		from := s.sources[sr.SSRC]
		if from.track != nil {
			from.track.reception.senderReport, from.track.reception.senderReportedAt = uint32(sr.NTPTime>>16), s.now()
		}
		s.mu.Unlock()
		if from.track != nil && !from.repair {
			s.senderReport(from.track, sr)
		}
	}
}
