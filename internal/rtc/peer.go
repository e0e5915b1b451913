package rtc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
)

var (
	// ErrLost: the peer has not answered ICE's checks for so long that consent to send has expired (RFC 7675).
	ErrLost = errors.New("the peer does not answer any more")
	// ErrBye: the peer closed the connection.
	ErrBye = errors.New("the peer closed the connection")
)

// connectWithin bounds ICE and DTLS of a new Peer together.
const connectWithin = 30 * time.Second

// Parameters are one side's part of ICE and DTLS, as SDP carries them.
type Parameters struct {
	Ufrag, Pwd  string
	Candidates  []string // "candidate:…" each
	Fingerprint string   // "sha-256 AB:CD:…"
}

// Events are what a Peer tells its owner, on goroutines of its own: none may block or call the Peer's Close.
type Events struct {
	// Connected comes once, when media may be sent.
	Connected func(Keys)
	// Path says where to send from now on; it comes at least once before Connected, and again when ICE selects another pair.
	Path func(Path)
	// RTP lends a decrypted packet and its header, one at a time; nil: media is not received.
	RTP func([]byte, *rtp.Header)
	// RTCP lends a decrypted compound packet, one at a time.
	RTCP func([]byte)
	// Turn, unlike the others, may block: it waits until the handshake may go on computing, or ctx ends. What it returns is called
	// soon, when the peer is waited for again. nil: the handshake waits for nobody.
	Turn func(ctx context.Context) (giveBack func(), err error)
}

// A Peer is the server's end of one ICE and DTLS-SRTP session: full ICE in the controlled role, DTLS server unless Initiate says
// otherwise. Run drives it.
type Peer struct {
	port   *Port
	agent  *ice.Agent
	events Events
	lost   context.CancelCauseFunc
	ctx    context.Context
	role
	in inbound

	mu     sync.Mutex
	routed netip.AddrPort // whose SRTP, SRTCP and checks the socket hands to us
	conn   *ice.Conn
	checks checks
	moves  moves
}

// A role is what a Peer is when it is not controlled and DTLS server.
type role struct{ control, initiate bool }

// NewPeer makes a Peer and gathers its candidates. The caller runs it, or closes it.
func (p *Port) NewPeer(events Events) (*Peer, error) {
	network, err := p.local.network()
	if err != nil {
		return nil, fmt.Errorf("read network interfaces: %w", err)
	}
	patience := cmp.Or(p.cfg.Silence, silence)
	o := []ice.AgentOption{
		ice.WithNet(network),
		ice.WithUDPMux(p.udp), ice.WithTCPMux(p.tcp), ice.WithDisableActiveTCP(),
		ice.WithNetworkTypes([]ice.NetworkType{ice.NetworkTypeUDP4, ice.NetworkTypeUDP6, ice.NetworkTypeTCP4, ice.NetworkTypeTCP6}),
		ice.WithCandidateTypes([]ice.CandidateType{ice.CandidateTypeHost}),
		ice.WithIPFilter(p.udp.tells), ice.WithICELite(p.cfg.Lite), ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled),
		// Consent is asked for every 5 s; a peer that has not answered for these two together is gone.
		ice.WithDisconnectedTimeout(patience * 2 / 7), ice.WithFailedTimeout(patience * 5 / 7), ice.WithKeepaliveInterval(patience * 5 / 28),
		ice.WithLoggerFactory(pionLogs{p.log}),
	}
	if p.udp.loopback {
		o = append(o, ice.WithIncludeLoopback())
	}
	if rules := p.rules(); len(rules) > 0 {
		o = append(o, ice.WithAddressRewriteRules(rules...))
	}
	peer := &Peer{port: p, events: events, in: inbound{events: events}}
	if peer.agent, err = ice.NewAgentWithOptions(append(o, ice.WithBindingRequestHandler(peer.check))...); err != nil {
		return nil, fmt.Errorf("make ICE agent: %w", err)
	}
	peer.ctx, peer.lost = context.WithCancelCause(context.Background())
	err = errors.Join(peer.agent.OnConnectionStateChange(peer.stateChanged), peer.agent.OnSelectedCandidatePairChange(peer.pairChanged))
	if err == nil {
		err = peer.gather()
	}
	if err != nil {
		_ = peer.Close()
		return nil, err
	}
	return peer, nil
}

// gather waits for all local candidates: host addresses only, so at once.
func (p *Peer) gather() error {
	done := make(chan struct{})
	var once sync.Once
	if err := p.agent.OnCandidate(func(c ice.Candidate) {
		if c == nil {
			once.Do(func() { close(done) })
		}
	}); err != nil {
		return fmt.Errorf("gather ICE candidates: %w", err)
	}
	if err := p.agent.GatherCandidates(); err != nil {
		return fmt.Errorf("gather ICE candidates: %w", err)
	}
	timeout := time.NewTimer(5 * time.Second)
	defer timeout.Stop()
	select {
	case <-done:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	case <-timeout.C:
		return errors.New("gather ICE candidates: timed out")
	}
}

// Local returns our side's parameters.
func (p *Peer) Local() (Parameters, error) {
	ufrag, pwd, err := p.agent.GetLocalUserCredentials()
	if err != nil {
		return Parameters{}, fmt.Errorf("read ICE credentials: %w", err)
	}
	candidates, err := p.agent.GetLocalCandidates()
	if err != nil {
		return Parameters{}, fmt.Errorf("read ICE candidates: %w", err)
	}
	l := Parameters{Ufrag: ufrag, Pwd: pwd, Fingerprint: "sha-256 " + p.port.print}
	for _, c := range candidates {
		l.Candidates = append(l.Candidates, "candidate:"+c.Marshal())
	}
	l.Candidates = append(l.Candidates, p.port.reflexive()...)
	return l, nil
}

// AddCandidate adds a remote candidate, "candidate:…". One that cannot be used or understood is dropped in silence, as
// RFC 9725 §4.3.2 has it.
func (p *Peer) AddCandidate(value string) {
	c, err := ice.UnmarshalCandidate(strings.TrimPrefix(value, "candidate:"))
	if err != nil || strings.HasSuffix(c.Address(), ".local") {
		return // a browser's mDNS name means nothing here; its checks show us its address
	}
	_ = p.agent.AddRemoteCandidate(c)
}

// Control makes the Peer the controlling side of ICE, as the one that made the offer is (RFC 8445 §6.1.1). Call it before Run.
func (p *Peer) Control() { p.control = true }

// Initiate makes the Peer the DTLS client, as where the other side said setup:passive. Call it before Run.
func (p *Peer) Initiate() { p.initiate = true }

// RoundTrip returns what ICE's own checks measured last, some seconds ago; 0: not known.
func (p *Peer) RoundTrip() time.Duration {
	s, ok := p.agent.GetSelectedCandidatePairStats()
	if !ok || s.CurrentRoundTripTime <= 0 {
		return 0
	}
	return time.Duration(s.CurrentRoundTripTime * float64(time.Second))
}

// Run connects to remote and serves the session until ctx ends (nil), the peer closes it (ErrBye) or is silent for too long
// (ErrLost). The Peer is closed when Run returns.
func (p *Peer) Run(ctx context.Context, remote Parameters) error {
	defer p.Close()
	stop := context.AfterFunc(ctx, func() { p.lost(nil) })
	defer stop()
	err := p.run(remote)
	if ctx.Err() != nil {
		return nil
	}
	if cause := context.Cause(p.ctx); cause != nil {
		return cause
	}
	return err
}

func (p *Peer) run(remote Parameters) error {
	connect, cancel := context.WithTimeout(p.ctx, connectWithin)
	defer cancel()
	start := p.agent.StartAccept
	if p.control {
		start = p.agent.StartDial
	}
	conn, err := start(remote.Ufrag, remote.Pwd)
	if err != nil {
		return fmt.Errorf("start ICE: %w", err)
	}
	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()
	if err := p.expect(remote); err != nil {
		return err
	}
	for _, c := range remote.Candidates {
		p.AddCandidate(c)
	}
	if err := p.agent.AwaitConnect(connect); err != nil {
		return fmt.Errorf("connect by ICE: %w", err)
	}
	turns := &turns{take: p.events.Turn, ctx: connect}
	defer turns.finish()
	secure, err := p.secure(&recordConn{Conn: conn, media: p.received, turns: turns}, remote.Fingerprint)
	if err != nil {
		return fmt.Errorf("start DTLS: %w", err)
	}
	defer secure.Close()
	if err := secure.HandshakeContext(connect); err != nil {
		return fmt.Errorf("DTLS handshake: %w", err)
	}
	turns.finish()
	profile, ok := secure.SelectedSRTPProtectionProfile()
	if !ok {
		return errors.New("DTLS handshake: the peer offers no SRTP profile that we have")
	}
	state, ok := secure.ConnectionState()
	if !ok {
		return errors.New("DTLS handshake: no connection state")
	}
	keys, err := keysOf(&state, profile, !p.initiate)
	if err != nil {
		return err
	}
	if err := p.in.unlock(keys); err != nil {
		return err
	}
	p.events.Connected(keys)
	goodbye := make(chan struct{})
	watch := context.AfterFunc(p.ctx, func() {
		defer close(goodbye)
		_ = secure.Close()
	})
	defer func() { // Read returns before the close_notify is sent, and ICE must stay until it is
		if !watch() {
			<-goodbye
		}
	}()
	var b [16]byte // no application data is expected; the read ends with the connection
	for {
		if _, err := secure.Read(b[:]); err != nil && !errors.Is(err, io.ErrShortBuffer) {
			if errors.Is(err, io.EOF) {
				return ErrBye
			}
			return fmt.Errorf("DTLS: %w", err)
		}
	}
}

// expect notes what checks of remote must show from now on.
func (p *Peer) expect(remote Parameters) error {
	if p.port.cfg.Lite {
		return nil // the agent has no other sign of the peer's life
	}
	ufrag, pwd, err := p.agent.GetLocalUserCredentials()
	if err != nil {
		return fmt.Errorf("read ICE credentials: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks = checks{username: ufrag + ":" + remote.Ufrag, password: pwd, control: p.control}
	return nil
}

// checked answers a check that came from the selected address, if the agent need not see it.
func (p *Peer) checked(b []byte, from netip.AddrPort) []byte {
	p.mu.Lock()
	c := p.checks
	p.mu.Unlock()
	answer := c.answer(b, from)
	if answer != nil {
		p.mu.Lock()
		p.moves.stays()
		p.mu.Unlock()
	}
	return answer
}

// Restart begins a new ICE generation with the peer's new credentials and returns ours. Media goes on to the old address
// until the new pair is selected.
func (p *Peer) Restart(remote Parameters) (Parameters, error) {
	if len(remote.Ufrag) < 4 || len(remote.Pwd) < 22 { // RFC 8839 §5.4; nothing is touched yet
		return Parameters{}, errors.New("restart ICE: bad credentials")
	}
	if err := p.agent.Restart("", ""); err != nil {
		return Parameters{}, fmt.Errorf("restart ICE: %w", err)
	}
	if err := p.gather(); err != nil {
		return Parameters{}, err
	}
	if err := p.agent.SetRemoteCredentials(remote.Ufrag, remote.Pwd); err != nil {
		return Parameters{}, fmt.Errorf("restart ICE: %w", err)
	}
	if err := p.expect(remote); err != nil {
		return Parameters{}, err
	}
	for _, c := range remote.Candidates {
		p.AddCandidate(c)
	}
	return p.Local()
}

// Write sends one packet by way of ICE: for paths that a Batch does not serve. It does not block; a full TCP connection
// refuses.
func (p *Peer) Write(b []byte) error {
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	if conn == nil {
		return net.ErrClosed
	}
	n, err := conn.Write(b)
	if err == nil && n < len(b) {
		err = errFull // ICE keeps the reason to itself
	}
	return err
}

var errFull = errors.New("the connection is full")

// Close ends the Peer and waits for its goroutines, Run's caller excepted.
func (p *Peer) Close() error {
	p.lost(net.ErrClosed)
	p.route(netip.AddrPort{})
	return p.agent.GracefulClose()
}

func (p *Peer) stateChanged(s ice.ConnectionState) {
	if s == ice.ConnectionStateFailed {
		p.lost(ErrLost)
	}
}

func (p *Peer) pairChanged(_, remote ice.Candidate) {
	path := pathTo(remote)
	p.mu.Lock()
	p.moves.selected(time.Now())
	p.mu.Unlock()
	p.route(path.addr)
	p.events.Path(path)
}

// route makes the sockets hand addr's SRTCP and checks to us; the zero address ends that.
func (p *Peer) route(addr netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routed == addr || addr.IsValid() && p.ctx.Err() != nil {
		return
	}
	for _, s := range p.port.sockets {
		if p.routed.IsValid() && s.v4 == p.routed.Addr().Is4() {
			s.unroute(p.routed, p)
		}
		if addr.IsValid() && s.v4 == addr.Addr().Is4() {
			s.route(addr, p)
		}
	}
	p.routed = addr
}

// received takes SRTP and SRTCP of the peer. It runs on the socket's reader, or on DTLS's for what came through ICE.
func (p *Peer) received(b []byte) { p.in.receive(b) }

// secure starts DTLS over conn with a peer that has that certificate.
func (p *Peer) secure(conn *recordConn, fingerprint string) (*dtls.Conn, error) {
	common := p.port.dtlsOptions(fingerprint)
	if p.initiate {
		var o []dtls.ClientOption
		for _, option := range common {
			o = append(o, option)
		}
		return dtls.ClientWithOptions(conn, conn.RemoteAddr(), o...)
	}
	o := []dtls.ServerOption{
		dtls.WithClientAuth(dtls.RequireAnyClientCert),
		dtls.WithInsecureSkipVerifyHello(true), // ICE has verified the address
	}
	for _, option := range common {
		o = append(o, option)
	}
	return dtls.ServerWithOptions(conn, conn.RemoteAddr(), o...)
}

// dtlsOptions are those of both roles for a peer with that certificate.
func (p *Port) dtlsOptions(want string) []dtls.Option {
	return []dtls.Option{
		dtls.WithCertificates(p.cert),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithInsecureSkipVerify(true), // the fingerprint in SDP vouches, not an authority (RFC 8122)
		dtls.WithFlightInterval(200 * time.Millisecond),
		dtls.WithMTU(1200),
		dtls.WithLoggerFactory(pionLogs{p.log}),
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !strings.EqualFold(want, "sha-256 "+fingerprint(raw[0])) {
				return errors.New("the certificate is not the one that SDP announced")
			}
			return nil
		}),
	}
}

// ValidFingerprint tells whether s, a value of a=fingerprint, is one that Peers can check: SHA-256.
func ValidFingerprint(s string) bool {
	name, value, ok := strings.Cut(s, " ")
	if !ok || !strings.EqualFold(name, "sha-256") {
		return false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(value, ":", ""))
	return err == nil && len(b) == sha256.Size
}

// recordConn gives DTLS its records out of an ICE connection, and SRTP and SRTCP to whom it concerns (RFC 7983).
type recordConn struct {
	*ice.Conn
	media func([]byte)
	turns *turns
}

func (c *recordConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.turns.end()
	for {
		n, err := c.Read(b)
		if err != nil {
			return n, nil, err
		}
		switch {
		case n > 0 && b[0] >= 20 && b[0] < 64:
			return n, c.RemoteAddr(), c.turns.begin()
		case n > 0 && b[0] >= 128 && b[0] < 192:
			c.media(b[:n])
		}
	}
}

func (c *recordConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// Close leaves the ICE connection to the Peer, which closes it after DTLS has said goodbye.
func (c *recordConn) Close() error { return c.SetReadDeadline(time.Unix(1, 0)) }
