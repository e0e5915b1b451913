package whip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"gantry/media"
	"gantry/uplink"
)

// ICE timing. A path is given up when nothing has come back for disconnectedAfter; keep-alives and RTCP come far more often.
const (
	disconnectedAfter = 2500 * time.Millisecond
	failedAfter       = 5 * time.Second
	keepAlive         = 500 * time.Millisecond
)

// How long a packet is not sent a third time: one round trip. Measured by sender reports alone it may be far off.
const (
	minQuiet = 10 * time.Millisecond
	maxQuiet = 60 * time.Millisecond
	topQuiet = 300 * time.Millisecond // by transport-wide reports
)

// A session is one peer connection and what drives it.
type session struct {
	sender  *Sender
	program uplink.Program
	log     *slog.Logger
	library *pionLog
	http    *client
	pc      *webrtc.PeerConnection
	streams []*stream

	pacer      *pacer
	bandwidth  *bandwidth
	candidates *candidates
	states     chan struct{} // the connection's state changed
	answer     string        // the server's description
	held       []string      // its TCP candidates, until release
	release    <-chan time.Time
	live       atomic.Bool // media flows: connected, and not interrupted
}

func newSession(s *Sender, http *client, p uplink.Program) (*session, error) {
	name := fmt.Sprintf("gantry-%016x", rand.Uint64())
	streams, err := newStreams(p.Tracks, name)
	if err != nil {
		return nil, err
	}
	s.route.share(streams)
	library := newPionLog(s.log)
	ses := &session{sender: s, program: p, log: s.log, library: library, http: http, streams: streams, candidates: newCandidates(),
		states: make(chan struct{}, 1)}
	if ses.program.Feedback == nil {
		ses.program.Feedback = func(media.Feedback) {}
	}

	engine := &webrtc.MediaEngine{}
	for _, st := range streams {
		if err := st.register(engine); err != nil {
			return nil, err
		}
		extensions := []string{sdp.SDESMidURI, sdp.TransportCCURI, absCaptureTimeURI}
		if st.rid != "" {
			extensions = append(extensions, sdp.SDESRTPStreamIDURI, sdp.SDESRepairRTPStreamIDURI)
		}
		for _, uri := range extensions {
			if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, st.Kind()); err != nil {
				return nil, err
			}
		}
	}
	var settings webrtc.SettingEngine
	settings.LoggerFactory = library
	s.route.settings(&settings)
	settings.SetICETimeouts(disconnectedAfter, failedAfter, keepAlive)
	settings.SetSTUNGatherTimeout(gatherTimeout)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled) // a publisher has no address to hide from its server
	settings.SetIncludeLoopbackCandidate(loopback(http.endpoint))
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})

	ses.bandwidth = newBandwidth(s.config.Bitrate, p.Tracks)
	ses.bandwidth.bonded = s.route.bonded()
	ses.bandwidth.resend = ses.resendLost
	settings.BufferFactory = reportBuffers(ses.bandwidth.feedback)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	ses.pc, err = api.NewPeerConnection(webrtc.Configuration{
		ICEServers: iceServers(s.config.ICE, s.remembered()), BundlePolicy: webrtc.BundlePolicyMaxBundle, RTCPMuxPolicy: webrtc.RTCPMuxPolicyRequire,
	})
	if err != nil {
		return nil, err
	}
	if err := ses.addStreams(); err != nil {
		ses.close()
		return nil, err
	}
	ses.pacer = newPacer(ses.bandwidth.pace(estimate{rate: ses.bandwidth.start()}), &s.count)
	ses.pacer.departed = ses.bandwidth.departed
	ses.pacer.wall, ses.pacer.report, ses.pacer.cname = p.Wall, ses.pc.WriteRTCP, name
	ses.pc.OnICECandidate(ses.candidates.add)
	ses.pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { notify(ses.states) }) // they may come out of order: look it up
	return ses, nil
}

// addStreams makes a sender of each track, which layers of video share.
func (s *session) addStreams() error {
	var layered *webrtc.RTPSender
	for _, st := range s.streams {
		if st.rid != "" && layered != nil {
			if err := layered.AddEncoding(st); err != nil {
				return fmt.Errorf("add layer %s: %w", st.rid, err)
			}
			st.sender = layered
			continue
		}
		t, err := s.pc.AddTransceiverFromTrack(st, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return err
		}
		if st.sender = t.Sender(); st.rid != "" {
			layered = st.sender
		}
	}
	return nil
}

func (s *session) close() {
	_ = s.pc.GracefulClose()
	s.library.mute() // goroutines that GracefulClose does not wait for end now, not without a word
}

// run holds the session until it is lost or ctx ends, and returns after its last goroutine.
func (s *session) run(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	var workers, readers sync.WaitGroup
	workers.Go(func() {
		if err := s.transmit(inner); err != nil {
			cancel(err)
		}
	})
	workers.Go(func() { s.pacer.run(inner) })
	workers.Go(func() { s.bandwidth.watch(inner, s.pacer, &s.sender.count, s.program.Feedback) })
	for _, st := range s.streams {
		readers.Go(func() { s.read(st) })
	}
	err := s.signal(inner)
	cancel(err)
	workers.Wait()

	s.goodbye()
	if e := s.http.delete(ctx); e != nil {
		s.log.Debug("session not deleted", "err", e)
	}
	s.close()
	readers.Wait()
	return err
}

// goodbye tells the receiver that the streams end (RFC 3550 §6.6).
func (s *session) goodbye() {
	if !s.live.Load() {
		return
	}
	var bye rtcp.Goodbye
	for _, st := range s.streams {
		bye.Sources = append(bye.Sources, st.wire.ssrc)
	}
	_ = s.pc.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: bye.Sources[0]}, &bye})
}

// transmit packs access units for the pacer. It returns the Queue's error when that ends.
func (s *session) transmit(ctx context.Context) error {
	var lanes []*lane
	var kept []*media.Packet // what a path of a Bond could not send yet
	running := uint64(0)     // bit set of the tracks of video that began with a key frame
	for {
		unit, err := s.program.Packets.Pull(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, io.EOF) || err == nil && unit == nil {
			return errEnded
		}
		if err != nil {
			return err
		}
		if int(unit.Track) >= len(s.streams) {
			continue
		}
		kept = append(kept, unit)
		if !s.live.Load() {
			running = 0
			kept = s.sender.route.keep(kept)
			continue
		}
		if s.sender.route.bonded() { // the other paths have what it follows
			running = ^uint64(0)
		}
		if lanes == nil {
			lanes = s.lanes()
		}
		for _, unit := range kept {
			s.put(lanes[unit.Track], unit, &running)
			s.pacer.wait(ctx)
		}
		kept = kept[:0]
	}
}

// put packs an access unit for the pacer, but for video of which no key frame has come.
func (s *session) put(l *lane, unit *media.Packet, running *uint64) {
	queue := audioQueue
	if l.stream.track.Codec.Video() {
		if queue = videoQueue; unit.Key {
			*running |= 1 << unit.Track
		}
		if *running&(1<<unit.Track) == 0 {
			return
		}
	}
	packets := l.pack(unit, l.stream.pack(unit.Data))
	if s.sender.route.number(unit, packets) {
		s.pacer.put(queue, packets...)
	} else if queue == videoQueue {
		*running &^= 1 << unit.Track
	}
}

// errEnded: the programme is over, which is a clean end.
var errEnded = errors.New("programme ended")

// writer returns what a stream's packets go through.
func writer(out webrtc.TrackLocalWriter) interceptor.RTPWriter {
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) {
		return out.WriteRTP(h, payload)
	})
}

// lanes makes the sending halves when the streams are bound, which is before anything is live.
func (s *session) lanes() []*lane {
	var lanes []*lane
	for _, st := range s.streams {
		l := &lane{stream: st, write: writer(st.wire.out), seq: uint16(rand.Uint32()), rtxSeq: uint16(rand.Uint32()),
			history: newHistory(st.Kind())}
		st.lane.Store(l)
		lanes = append(lanes, l)
	}
	return lanes
}

// pack makes the packets of one access unit. Only the first of them says when it was captured.
func (l *lane) pack(unit *media.Packet, payloads [][]byte) []*packet {
	mark := unit.Key && l.stream.track.Codec.Video() || l.marked == 0 || unit.PTS-l.marked >= captureEvery || unit.PTS < l.marked
	if mark {
		l.marked = unit.PTS
	}
	ts := l.stream.clock.at(unit.PTS)
	packets := make([]packet, len(payloads))
	all := make([]*packet, len(payloads))
	for i, b := range payloads {
		packets[i] = packet{lane: l, payload: b, ts: ts, pts: unit.PTS, mark: mark && i == 0}
		all[i] = &packets[i]
	}
	if len(all) > 0 && l.stream.track.Codec.Video() {
		all[len(all)-1].marker = true
	}
	return all
}

// read handles the RTCP of one stream until the connection is closed.
func (s *session) read(st *stream) {
	for {
		packets, _, err := st.sender.ReadSimulcastRTCP(st.rid)
		if errors.Is(err, io.ErrShortBuffer) { // longer than any RTCP packet should be
			continue
		}
		if err != nil {
			return
		}
		for _, p := range packets {
			s.received(st, p)
		}
	}
}

func (s *session) received(st *stream, p rtcp.Packet) {
	count := &s.sender.count
	switch p := p.(type) {
	case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest: // RFC 4585 §6.3.1, RFC 5104 §4.3.1
		// What is about several layers comes to each of them.
		if st.Kind() == webrtc.RTPCodecTypeVideo && slices.Contains(p.DestinationSSRC(), st.wire.ssrc) {
			count.plis.Add(1)
			s.program.Feedback(media.Feedback{KeyFrame: true, Tracks: 1 << st.index})
		}
	case *rtcp.TransportLayerNack:
		s.resend(st, p)
	case *rtcp.ReceiverReport:
		s.receivedReports(st, p.Reports)
	case *rtcp.SenderReport:
		s.receivedReports(st, p.Reports)
	default:
		s.bandwidth.feedback(p)
	}
}

func (s *session) receivedReports(st *stream, reports []rtcp.ReceptionReport) {
	for _, r := range reports {
		if r.SSRC == st.wire.ssrc {
			st.known.Store(true)
			video := st.Kind() == webrtc.RTPCodecTypeVideo
			s.sender.count.answered(r.SSRC, r.LastSenderReport, r.Delay, r.FractionLost, video, time.Now())
		}
	}
}

// resend queues what the receiver asks for, unless it was sent again just before.
func (s *session) resend(st *stream, nack *rtcp.TransportLayerNack) {
	l := st.lane.Load()
	if l == nil || nack.MediaSSRC != st.wire.ssrc {
		return
	}
	now, quiet := time.Now(), s.quiet()*5/8 // it knows the round trip, and ours has the time between reports in it
	for _, pair := range nack.Nacks {
		pair.Range(func(seq uint16) bool {
			s.sender.count.nacks.Add(1)
			if again := l.history.get(seq, now, quiet); again != nil {
				s.pacer.put(rtxQueue, again)
			}
			return true
		})
	}
}

// resendLost queues what a report calls lost.
func (s *session) resendLost(l *lane, seq uint16) {
	if again := l.history.get(seq, time.Now(), s.quiet()*3/4); again != nil {
		s.pacer.put(rtxQueue, again)
	}
}

// quiet is how long a packet is not sent a third time.
func (s *session) quiet() time.Duration {
	quiet := min(s.sender.count.rtt(), maxQuiet)
	if rtt := s.bandwidth.rtt(); rtt > 0 {
		quiet = min(rtt, topQuiet)
	}
	return max(quiet, minQuiet)
}

// connectionError says how far a session came that never connected.
func (s *session) connectionError(limit time.Duration) error {
	s.candidates.mu.Lock()
	local := s.candidates.total
	s.candidates.mu.Unlock()
	remote := strings.Count(s.answer, "a=candidate:")
	if s.pc.ICEConnectionState() == webrtc.ICEConnectionStateConnected {
		return fmt.Errorf("DTLS handshake not done within %v", limit)
	}
	return fmt.Errorf("no path to the server within %v (ICE %v, %d local and %d remote candidates): is its media port open?",
		limit, s.pc.ICEConnectionState(), local, remote)
}
