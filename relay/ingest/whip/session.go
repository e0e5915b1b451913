package whip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	proto "gantry/internal/proto/whip"
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
	icesTime  = 10 * time.Second     // to gather candidates
)

// A session is one publisher: its peer connection, its tracks and its Publication.
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

	pc       *webrtc.PeerConnection
	offer    string        // without candidates; a restart changes its credentials
	gathered chan struct{} // one element when the last local candidate is known

	ending  chan error    // why; the first counts
	kick    chan struct{} // look after the tracks now
	done    chan struct{}
	readers sync.WaitGroup
	path
}

// A path is how a session's packets go.
type path struct {
	mu       sync.Mutex // held while packets are taken
	tracks   []*track
	pub      publication   // nil before the first packet
	heard    time.Duration // the first packet
	ended    bool
	feedback *media.Mailbox // from the Hub
	rtt      time.Duration
	ssrc     uint32 // ours, in RTCP
	firs     uint8  // sequence number of FIR (RFC 5104 §4.3.1.1)
	nacks    []uint16
}

// now is the session's clock.
func (s *session) now() time.Duration { return time.Since(s.born) }

// negotiate answers the offer; sections are what it was found to hold.
func (s *session) negotiate(ctx context.Context, offer string, sections []*section) (answer string, err error) {
	text, candidates := remoteCandidates(offer)
	text = withDirections(text, sections)
	s.offer = text
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: text}); err != nil {
		return "", invalid("%v", err)
	}
	_ = s.Trickle(proto.Fragment{Candidates: candidates})
	if err := s.answer(ctx); err != nil {
		if refusal := (*proto.Error)(nil); !errors.As(err, &refusal) {
			err = refused("the offer cannot be answered: %v", err)
		}
		return "", err
	}
	answer = s.pc.LocalDescription().SDP
	if strings.Count(answer, "a=recvonly") != len(sections) {
		return "", refused("the offered codecs cannot be received together")
	}
	return finishAnswer(answer, sections), nil
}

// answer makes the local description and waits for all of its candidates (RFC 9725 §4.3.2).
func (s *session) answer(ctx context.Context) error {
	answer, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("create answer: %w", err)
	}
	if err := s.pc.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("set answer: %w", err)
	}
	limit := time.NewTimer(icesTime)
	defer limit.Stop()
	select {
	case <-s.gathered:
		return nil
	case <-limit.C:
		return errors.New("gather candidates: out of time")
	case <-ctx.Done():
		return &proto.Error{Status: http.StatusServiceUnavailable, Reason: "the request was given up"}
	}
}

// Trickle implements proto.Session.
func (s *session) Trickle(f proto.Fragment) error {
	for _, c := range f.Candidates {
		mid := c.MID
		// Names that do not resolve and transports that are not ours are dropped in silence (RFC 9725 §4.3.1).
		if err := s.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.Value, SDPMid: &mid}); err != nil {
			s.log.Debug("candidate not used", "err", err)
		}
	}
	return nil
}

// Restart implements proto.Session (RFC 9725 §4.3.3).
func (s *session) Restart(f proto.Fragment) (proto.Fragment, error) {
	text := withCredentials(s.offer, f.Ufrag, f.Pwd)
	select {
	case <-s.gathered:
	default:
	}
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: text}); err != nil {
		s.rollback()
		return proto.Fragment{}, proto.Errorf(http.StatusUnprocessableEntity, "ICE restart: %v", err)
	}
	if err := s.answer(context.Background()); err != nil {
		s.rollback()
		return proto.Fragment{}, fmt.Errorf("ICE restart: %w", err)
	}
	s.offer = text
	_ = s.Trickle(f)
	s.log.Info("ICE restarted", "stream", s.stream, "remote", s.remote)
	local, err := proto.ParseFragment([]byte(s.pc.LocalDescription().SDP))
	if err != nil {
		return local, fmt.Errorf("ICE restart: %w", err)
	}
	return local, nil
}

func (s *session) rollback() {
	if s.pc.SignalingState() == webrtc.SignalingStateHaveRemoteOffer {
		_ = s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeRollback})
	}
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
func (s *session) run() {
	defer close(s.done)
	why := s.attend()
	s.mu.Lock()
	s.ended = true
	pub := s.pub
	s.mu.Unlock()
	if pub != nil {
		_ = pub.Close()
	}
	if err := s.pc.GracefulClose(); err != nil {
		s.log.Debug("peer connection closed", "err", err)
	}
	s.readers.Wait()
	s.server.counters.Sessions.Add(-1)
	s.log.Info("publisher's session ended", "stream", s.stream, "remote", s.remote, "reason", why, "dur", s.now().Round(time.Millisecond))
}

// attend sends what feedback the tracks need, gives up packets that waited too long, and returns why the session ends.
func (s *session) attend() error {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	var over <-chan struct{}
	var measured time.Duration
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
		if now-measured >= time.Second {
			measured = now
			s.measure()
		}
		s.mu.Lock()
		if s.heard == 0 && now > mediaTime {
			s.mu.Unlock()
			return errNoMedia
		}
		next := idle
		out = out[:0]
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
		if len(out) > 0 {
			if err := s.pc.WriteRTCP(out); err != nil {
				s.log.Debug("feedback not sent", "err", err)
			}
		}
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
	stats, ok := s.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePairStats()
	if !ok || stats.CurrentRoundTripTime <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rtt = time.Duration(stats.CurrentRoundTripTime * float64(time.Second))
}

// received is pion's call for a new incoming encoding; it reads it to its end.
func (s *session) received(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	s.mu.Lock()
	var t *track
	for _, candidate := range s.tracks {
		if candidate.section.kind == remote.Kind() && candidate.rid == remote.RID() {
			t = candidate
		}
	}
	if s.ended || t == nil {
		s.mu.Unlock()
		return
	}
	t.remote = remote
	for _, x := range receiver.GetParameters().HeaderExtensions {
		if x.URI == captureURI {
			t.captureID = uint8(x.ID)
		}
	}
	s.readers.Go(func() { s.readReports(t, receiver) })
	s.readers.Add(1)
	defer s.readers.Done()
	s.mu.Unlock()
	s.wake()
	s.read(t, remote)
}

// maxUnread is how many packets in a row may be unreadable before the track is given up.
const maxUnread = 100

// read takes packets until the peer connection closes.
func (s *session) read(t *track, remote *webrtc.TrackRemote) {
	buf := make([]byte, receiveMTU)
	for bad := 0; bad < maxUnread; {
		n, attributes, err := remote.Read(buf)
		if err != nil {
			bad++ // the end, or a packet that an interceptor cannot read
			if ended(err) {
				return
			}
			continue
		}
		bad = 0
		header, err := attributes.GetRTPHeader(buf[:n])
		if err != nil {
			continue
		}
		payload, ok := rtpPayload(buf[:n])
		if !ok {
			continue
		}
		p := piece{seq: header.SequenceNumber, ts: header.Timestamp, marker: header.Marker, arrival: s.now()}
		if t.captureID != 0 {
			p.capture = captureTime(header.GetExtension(t.captureID))
		}
		s.receive(t, header.PayloadType, p, payload)
	}
}

// ended tells whether a read returned because the peer connection closed.
func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) }

// readReports takes RTCP until the peer connection closes. It also feeds the interceptors.
func (s *session) readReports(t *track, receiver *webrtc.RTPReceiver) {
	for bad := 0; bad < maxUnread; {
		var packets []rtcp.Packet
		var err error
		if t.rid == "" {
			packets, _, err = receiver.ReadRTCP()
		} else {
			packets, _, err = receiver.ReadSimulcastRTCP(t.rid)
		}
		if err != nil {
			bad++
			if ended(err) {
				return
			}
			continue
		}
		bad = 0
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == uint32(t.remote.SSRC()) {
				s.senderReport(t, sr)
			}
		}
	}
}

// A repair is the interceptor that takes retransmissions (RFC 4588) as they come. pion hands them out only when the track's
// next packet of its own arrives.
type repair struct {
	interceptor.NoOp
	s *session
}

// NewInterceptor implements interceptor.Factory: one session, one interceptor.
func (r *repair) NewInterceptor(string) (interceptor.Interceptor, error) { return r, nil }

// BindRemoteStream implements interceptor.Interceptor.
func (r *repair) BindRemoteStream(info *interceptor.StreamInfo, reader interceptor.RTPReader) interceptor.RTPReader {
	if !isRTX(info.MimeType) {
		return reader
	}
	ssrc := info.SSRC
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := reader.Read(b, a)
		if err == nil {
			r.s.retransmitted(ssrc, b[:n])
		}
		return n, a, err
	})
}
