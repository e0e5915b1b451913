package whip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"gantry/internal/proto/whip"
	"gantry/media"
	"gantry/uplink"
)

const (
	gatherTimeout  = 3 * time.Second        // full gathering: a STUN server that does not answer must not hold the offer back
	trickleDelay   = 100 * time.Millisecond // candidates found within it share one PATCH
	connectTimeout = 15 * time.Second
	restartTimeout = 5 * time.Second        // of an ICE restart: a new session takes no longer
	refusedTimeout = time.Second            // to connect all the same, when the server refused our candidates
	tcpDelay       = 700 * time.Millisecond // UDP's lead over TCP
	pathEvery      = 2 * time.Second        // how often the local addresses are looked at
)

// signal negotiates and then keeps the session: it trickles candidates and restarts ICE. It returns why the session ended;
// the caller's ctx ending is one reason.
func (s *session) signal(ctx context.Context) error {
	if err := s.negotiate(ctx); err != nil {
		return err
	}
	k := keeper{session: s, deadline: time.NewTimer(connectTimeout)}
	k.late = func() error { return s.connectionError(connectTimeout) }
	defer k.deadline.Stop()
	return k.run(ctx)
}

func (s *session) trickles() bool {
	return s.sender.config.Gather == Trickle && !s.sender.full.Load()
}

// negotiate exchanges offer and answer.
func (s *session) negotiate(ctx context.Context) error {
	offer, err := s.pc.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("make offer: %w", err)
	}
	send := offer.SDP
	if !s.trickles() {
		if err := s.pc.SetLocalDescription(offer); err != nil {
			return fmt.Errorf("set offer: %w", err)
		}
		gathering, cancel := context.WithTimeout(ctx, gatherTimeout)
		s.candidates.gathered(gathering)
		cancel()
		s.candidates.take()
		send = s.pc.LocalDescription().SDP
	}
	if send, err = finishOffer(send, s.trickles(), s.formats()); err != nil {
		return fmt.Errorf("make offer: %w", err)
	}
	answer, err := s.http.post(ctx, send)
	if err != nil {
		return err
	}
	s.sender.remember(answer.links)
	if s.trickles() {
		// Gathering begins only now, so that it uses the servers that the answer names.
		servers := iceServers(s.sender.config.ICE, s.sender.remembered())
		if err := s.pc.SetConfiguration(webrtc.Configuration{ICEServers: servers}); err != nil {
			s.log.Debug("ICE servers not used", "err", err)
		}
		if err := s.pc.SetLocalDescription(offer); err != nil {
			return fmt.Errorf("set offer: %w", err)
		}
	}
	for _, t := range s.pc.GetTransceivers() {
		for _, st := range s.streams {
			if st.sender == t.Sender() {
				st.mid = t.Mid()
			}
		}
	}
	if err := checkAnswer(answer.sdp, send); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if err := s.setAnswer(answer.sdp); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// setAnswer applies the server's description, but holds its TCP candidates back: pion nominates whatever answers first, and
// media must not end on TCP where UDP passes.
func (s *session) setAnswer(answer string) error {
	now, later := splitTCP(answer)
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: now}); err != nil {
		return err
	}
	s.answer, s.held, s.release = answer, later, nil
	if len(later) > 0 {
		s.release = time.After(tcpDelay)
	}
	return nil
}

// releaseTCP lets ICE try TCP as well.
func (s *session) releaseTCP() {
	for _, c := range s.held {
		if err := s.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c}); err != nil {
			s.log.Debug("candidate not used", "err", err)
		}
	}
	s.held = nil
}

// formats returns the payload type of each layer where they differ.
func (s *session) formats() map[string]webrtc.PayloadType {
	all, types := map[string]webrtc.PayloadType{}, map[webrtc.PayloadType]bool{}
	for _, st := range s.streams {
		if st.rid != "" {
			all[st.rid], types[st.payloadType()] = st.payloadType(), true
		}
	}
	if len(types) < 2 {
		return nil
	}
	return all
}

// finishOffer adds what RFC 9725 §4.4.1 and RFC 8840 §4.1 ask for and pion does not write. Layers are told apart by their RIDs
// alone, as browsers do it; formats are the payload types of those that are in different codecs (RFC 8851 §5).
func finishOffer(offer string, trickle bool, formats map[string]webrtc.PayloadType) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(offer); err != nil {
		return "", err
	}
	options := "ice2"
	if trickle {
		options = "trickle ice2"
	}
	kept := d.Attributes[:0:0]
	for _, a := range d.Attributes {
		if a.Key != "ice-options" {
			kept = append(kept, a)
		}
	}
	d.Attributes = append(kept, sdp.NewAttribute("ice-options", options))
	for _, m := range d.MediaDescriptions {
		var all []sdp.Attribute
		_, layered := m.Attribute("simulcast")
		for _, a := range m.Attributes {
			if a.Key == "ice-options" || a.Key == "rtcp-mux-only" || layered && (a.Key == "ssrc" || a.Key == "ssrc-group" || slices.Contains(all, a)) {
				continue
			}
			if rid, _, _ := strings.Cut(a.Value, " "); a.Key == "rid" && formats[rid] != 0 {
				a.Value += fmt.Sprintf(" pt=%d", formats[rid])
			}
			all = append(all, a)
			if a.Key == "rtcp-mux" {
				all = append(all, sdp.NewPropertyAttribute("rtcp-mux-only"))
			}
		}
		m.Attributes = all
	}
	b, err := d.Marshal()
	return string(b), err
}

// checkAnswer refuses answers that pion would take, and send into the void for.
func checkAnswer(answer, offer string) error {
	var a, o sdp.SessionDescription
	if err := a.UnmarshalString(answer); err != nil {
		return fmt.Errorf("malformed SDP: %w", err)
	}
	if err := o.UnmarshalString(offer); err != nil {
		return err
	}
	if len(a.MediaDescriptions) != len(o.MediaDescriptions) {
		return fmt.Errorf("%d media sections for an offer of %d", len(a.MediaDescriptions), len(o.MediaDescriptions))
	}
	for i, m := range a.MediaDescriptions {
		kind := o.MediaDescriptions[i].MediaName.Media
		if m.MediaName.Media != kind {
			return fmt.Errorf("section %d is %s, offered as %s", i, m.MediaName.Media, kind)
		}
		if m.MediaName.Port.Value == 0 {
			return fmt.Errorf("server rejects the %s", kind)
		}
		for _, direction := range []string{"inactive", "sendonly"} {
			if _, ok := m.Attribute(direction); ok {
				return fmt.Errorf("%s is %s, where a server must receive", kind, direction)
			}
		}
		if err := checkLayers(m, o.MediaDescriptions[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkLayers refuses an answer that does not take all layers (RFC 8853 §5.3.2): what is sent of the others would be for nothing.
func checkLayers(answer, offer *sdp.MediaDescription) error {
	offered, ok := offer.Attribute("simulcast")
	if !ok {
		return nil
	}
	taken, _ := answer.Attribute("simulcast")
	layers := func(value, direction string) []string {
		fields := strings.Fields(value)
		if i := slices.Index(fields, direction); i >= 0 && i+1 < len(fields) {
			return strings.FieldsFunc(fields[i+1], func(r rune) bool { return r == ';' || r == ',' || r == '~' })
		}
		return nil
	}
	for _, rid := range layers(offered, "send") {
		if !slices.Contains(layers(taken, "recv"), rid) {
			return fmt.Errorf("%w: server does not take the layer %q (simulcast)", uplink.ErrRefused, rid)
		}
	}
	return nil
}

// A keeper holds a negotiated session. Its states:
//
//	connecting → live → interrupted → restarting → live …
//
// deadline runs in all but live; when it ends, late says why the session is lost.
type keeper struct {
	*session
	deadline  *time.Timer
	late      func() error
	flush     <-chan time.Time // trickled candidates wait for others until then
	done      bool             // all candidates are sent, or need not be
	refused   bool             // the server takes no PATCH
	connected bool             // was live at least once
}

func (k *keeper) run(ctx context.Context) error {
	path := time.NewTicker(pathEvery)
	defer path.Stop()
	k.done = !k.trickles()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-k.deadline.C:
			return k.late()
		case <-k.candidates.ready:
			switch {
			case k.done:
			case k.candidates.complete():
				if err := k.send(ctx); err != nil {
					return err
				}
			case k.flush == nil:
				k.flush = time.After(trickleDelay)
			}
		case <-k.flush:
			if err := k.send(ctx); err != nil {
				return err
			}
		case <-k.release:
			if !k.live.Load() {
				k.releaseTCP()
			}
		case <-k.states:
			if err := k.state(ctx); err != nil {
				return err
			}
		case <-path.C:
			if k.live.Load() && pathLost(k.pair()) {
				if err := k.restart(ctx, "local address is gone"); err != nil {
					return err
				}
			}
		}
	}
}

// send trickles what was found. A server that refuses can often do without: it sees where our checks come from.
func (k *keeper) send(ctx context.Context) error {
	k.flush = nil
	found, end := k.candidates.take()
	if k.done || len(found) == 0 && !end {
		return nil
	}
	k.done = end
	own, err := fragment(k.pc.LocalDescription().SDP)
	if err != nil {
		return err
	}
	err = k.http.trickle(ctx, whip.Fragment{Ufrag: own.Ufrag, Pwd: own.Pwd, Candidates: found, End: end})
	switch {
	case errors.Is(err, errNoPatch):
		k.refused, k.done = true, true
		k.sender.full.Store(true)
		k.log.Debug("candidates not taken", "reason", err)
		if !k.connected {
			k.late = func() error { return errTrickle }
			k.deadline.Reset(refusedTimeout)
		}
		return nil
	case err != nil && k.connected:
		k.log.Debug("candidates not sent", "err", err)
		return nil
	}
	return err
}

// state follows the connection.
func (k *keeper) state(ctx context.Context) error {
	switch k.pc.ConnectionState() {
	case webrtc.PeerConnectionStateConnected:
		if k.live.Load() {
			return nil
		}
		for _, st := range k.streams { // bound moments after the state changes
			select {
			case <-st.ready:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		k.deadline.Stop()
		k.flow()
	case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed:
		if !k.connected {
			return nil // the deadline decides: candidates may be on the way
		}
		if k.live.Load() {
			return k.restart(ctx, "nothing comes back from the server")
		}
	case webrtc.PeerConnectionStateClosed:
		return errors.New("server ended the session")
	}
	return nil
}

// flow lets media pass, and asks for the key frame that it begins with.
func (k *keeper) flow() {
	remote, transport := "", ""
	if pair := k.pair(); pair != nil && pair.Remote != nil {
		remote, transport = hostPort(pair.Remote), strings.ToLower(pair.Remote.Protocol.String())
	}
	k.sender.count.update(func(d *Detail) { d.Connected, d.Remote, d.Transport = true, remote, transport })
	k.live.Store(true)
	k.program.Feedback(media.Feedback{KeyFrame: true})
	if k.connected {
		k.log.Info("path restored", "remote", remote, "transport", transport)
		return
	}
	k.connected = true
	k.log.Info("publishing", "remote", remote, "transport", transport) // not the session's URL: who knows it can end the session
	if k.program.Connected != nil {
		k.program.Connected()
	}
}

func (k *keeper) pair() *webrtc.ICECandidatePair {
	pair, err := k.pc.GetTransceivers()[0].Sender().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil {
		return nil
	}
	return pair
}

// restart makes a new path for the session (RFC 9725 §4.3.2). All candidates are gathered first: one PATCH, one answer.
// Nothing flows meanwhile. Its errors end the session, for a new one.
func (k *keeper) restart(ctx context.Context, reason string) error {
	k.live.Store(false)
	k.pacer.clear()
	k.sender.count.update(func(d *Detail) { d.Connected, d.Remote, d.Transport = false, "", "" })
	if k.refused {
		return fmt.Errorf("path lost: %s, and the server takes no ICE restart", reason)
	}
	k.log.Warn("path lost, restarting ICE", "reason", reason)
	k.sender.count.restarts.Add(1)
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, restartTimeout, fmt.Errorf("path lost: %s; ICE restart not done within %v", reason, restartTimeout))
	defer cancel()
	if err := k.exchange(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("path lost: %s; %w", reason, err)
	}
	k.done = true
	k.late = func() error {
		return fmt.Errorf("path lost: %s; no new path within %v of an ICE restart", reason, restartTimeout)
	}
	k.deadline.Reset(restartTimeout - time.Since(begin))
	return nil
}

func (k *keeper) exchange(ctx context.Context) error {
	servers := iceServers(k.sender.config.ICE, k.sender.remembered())
	if err := k.pc.SetConfiguration(webrtc.Configuration{ICEServers: servers}); err != nil {
		k.log.Debug("ICE servers not used", "err", err)
	}
	k.http.close() // what broke the path broke them too, and they would not notice in time
	k.candidates.reset()
	offer, err := k.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return fmt.Errorf("make offer: %w", err)
	}
	if err := k.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("set offer: %w", err)
	}
	gathering, stop := context.WithTimeout(ctx, restartTimeout/2)
	k.candidates.gathered(gathering)
	stop()
	ours, err := fragment(k.pc.LocalDescription().SDP)
	if err != nil {
		return err
	}
	ours.End = true
	theirs, err := k.http.restart(ctx, ours)
	if err != nil {
		return err
	}
	answer, err := withICE(k.answer, theirs)
	if err != nil {
		return fmt.Errorf("restart ICE: %w", err)
	}
	if err := k.setAnswer(answer); err != nil {
		return fmt.Errorf("restart ICE: %w", err)
	}
	return nil
}
