package load

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"
)

// A Viewer is one WHEP session that receives and measures.
type Viewer struct {
	loop     *Loop
	socket   *Socket
	location string
	remote   netip.AddrPort
	local    credentials
	peer     credentials
	dtls     *packetConn
	far      *far // nil: here
	conn     *dtls.Conn
	nominate chan struct{} // closed when the server has answered a check
	once     sync.Once
	stop     chan struct{}
	stopped  sync.WaitGroup

	mu    sync.Mutex
	meter meter
}

type credentials struct{ ufrag, pwd string }

// Options are what a viewer may differ in.
type Options struct {
	Client *http.Client // nil: http.DefaultClient
	Token  string
	Mend   bool // ask for what is lost, and tell what comes, as a browser does
	Keep   bool // with Mend: remember all that comes, for Shows
	// RTT is the round trip of a client far away: its POST and what it sends by UDP leave later by that.
	RTT time.Duration
}

// Certificate is what all viewers of this process show; making one costs more than a handshake.
var certificate = sync.OnceValues(selfsign.GenerateSelfSigned)

var (
	answerUfrag     = regexp.MustCompile(`a=ice-ufrag:(\S+)`)
	answerPwd       = regexp.MustCompile(`a=ice-pwd:(\S+)`)
	answerSetup     = regexp.MustCompile(`a=setup:(\S+)`)
	answerCandidate = regexp.MustCompile(`a=candidate:\S+ 1 (?i:udp) \d+ ([0-9.]+) (\d+) typ host`)
)

// Dial opens a session at a WHEP URL and returns when its keys are there. Media is measured from the first packet on.
func Dial(ctx context.Context, loop *Loop, whep string, o Options) (*Viewer, error) {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	v := &Viewer{loop: loop, local: credentials{random(8), random(24)}, nominate: make(chan struct{}), stop: make(chan struct{})}
	v.meter.posted = time.Now()
	v.dtls = newPacketConn(v.transmit)
	if o.RTT > 0 {
		v.far = newFar(o.RTT, func(b []byte) { _ = v.socket.Send(b, v.remote) })
	}
	var err error
	v.mu.Lock() // the Loop may call receive at once
	v.socket, err = loop.Open(v.receive)
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err = v.dial(ctx, whep, o); err != nil {
		v.Close(context.WithoutCancel(ctx), o)
		return nil, err
	}
	return v, nil
}

// transmit sends b to the server.
func (v *Viewer) transmit(b []byte) error {
	if v.far != nil {
		v.far.put(b)
		return nil
	}
	return v.socket.Send(b, v.remote)
}

func (v *Viewer) dial(ctx context.Context, whep string, o Options) error {
	cert, err := certificate()
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	if v.far != nil {
		select {
		case <-time.After(o.RTT):
		case <-ctx.Done():
			return ctx.Err()
		}
		v.stopped.Go(func() { v.far.run(v.stop) })
	}
	answer, err := v.post(ctx, whep, o, offer(v.local, cert, v.socket.Addr, o.Mend))
	if err != nil {
		return err
	}
	ufrag, pwd := answerUfrag.FindStringSubmatch(answer), answerPwd.FindStringSubmatch(answer)
	setup := answerSetup.FindStringSubmatch(answer)
	if ufrag == nil || pwd == nil || setup == nil {
		return errors.New("the answer has no ICE or DTLS parameters")
	}
	var remote netip.AddrPort
	for _, c := range answerCandidate.FindAllStringSubmatch(answer, -1) {
		if addr, err := netip.ParseAddrPort(c[1] + ":" + c[2]); err == nil && (!remote.IsValid() || addr.Addr().IsLoopback()) {
			remote = addr
		}
	}
	if !remote.IsValid() {
		return errors.New("the answer has no UDP candidate on loopback")
	}
	v.mu.Lock()
	v.peer, v.remote = credentials{ufrag[1], pwd[1]}, remote
	v.mu.Unlock()
	v.stopped.Go(v.check)
	select {
	case <-v.nominate:
	case <-ctx.Done():
		return fmt.Errorf("connect by ICE: %w", ctx.Err())
	}
	return v.handshake(ctx, cert, setup[1] == "active", o)
}

func (v *Viewer) post(ctx context.Context, whep string, o Options, offer string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, whep, strings.NewReader(offer))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/sdp")
	if o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+o.Token)
	}
	resp, err := o.Client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("POST: %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	base, err := url.Parse(whep)
	if err != nil {
		return "", err
	}
	location, err := base.Parse(resp.Header.Get("Location"))
	if err != nil {
		return "", err
	}
	v.location = location.String()
	return string(body), nil
}

// check sends ICE's connectivity checks, and keeps consent fresh.
func (v *Viewer) check() {
	wait := 10 * time.Millisecond
	if v.far != nil {
		wait = v.far.delay // as those do that know of such ways: a check a round trip
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-v.stop:
			return
		}
		m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(v.peer.ufrag+":"+v.local.ufrag),
			attr{stun.AttrPriority, binary.BigEndian.AppendUint32(nil, 2130706431)}, attr{stun.AttrICEControlling, []byte("gantry!!")},
			attr{stun.AttrUseCandidate, nil}, stun.NewShortTermIntegrity(v.peer.pwd), stun.Fingerprint)
		if err == nil {
			_ = v.transmit(m.Raw)
		}
		select {
		case <-v.nominate:
			wait = 2 * time.Second
		default:
			wait = min(2*wait, 200*time.Millisecond)
		}
		timer.Reset(wait)
	}
}

type attr struct {
	t stun.AttrType
	v []byte
}

func (a attr) AddTo(m *stun.Message) error { m.Add(a.t, a.v); return nil }

// handshake does DTLS; client tells that the server is the DTLS client.
func (v *Viewer) handshake(ctx context.Context, cert tls.Certificate, serverIsClient bool, o Options) error {
	// The order is a browser's.
	cfg := &dtls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
		SRTPProtectionProfiles: []dtls.SRTPProtectionProfile{dtls.SRTP_AES128_CM_HMAC_SHA1_80, dtls.SRTP_AEAD_AES_128_GCM},
		ClientAuth:             dtls.RequireAnyClientCert, InsecureSkipVerifyHello: true}
	make := dtls.Client
	if serverIsClient {
		make = dtls.Server
	}
	conn, err := make(v.dtls, v.dtls.LocalAddr(), cfg)
	if err != nil {
		return fmt.Errorf("start DTLS: %w", err)
	}
	v.conn = conn
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("DTLS handshake: %w", err)
	}
	profile, ok := conn.SelectedSRTPProtectionProfile()
	state, ok2 := conn.ConnectionState()
	if !ok || !ok2 {
		return errors.New("DTLS handshake: no SRTP profile")
	}
	p := srtp.ProtectionProfile(profile)
	keyLen, err := p.KeyLen()
	if err != nil {
		return err
	}
	saltLen, err := p.SaltLen()
	if err != nil {
		return err
	}
	m, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*keyLen+2*saltLen)
	if err != nil {
		return err
	}
	key, salt := m[keyLen:2*keyLen], m[2*keyLen+saltLen:]
	own, ownSalt := m[:keyLen], m[2*keyLen:2*keyLen+saltLen]
	if serverIsClient {
		key, salt, own, ownSalt = own, ownSalt, key, salt
	}
	open, err := srtp.CreateContext(key, salt, p, srtp.SRTPNoReplayProtection())
	if err != nil {
		return err
	}
	var mend *mender
	if o.Mend {
		seal, err := srtp.CreateContext(own, ownSalt, p)
		if err != nil {
			return err
		}
		mend = newMender(seal, o.Keep, func(b []byte) { _ = v.transmit(b) })
		mend.open = open
	}
	v.mu.Lock()
	v.meter.mender = mend
	v.meter.begin(open, p)
	v.mu.Unlock()
	if mend != nil {
		v.stopped.Go(v.mend)
	}
	return nil
}

// receive takes a packet from the Loop.
func (v *Viewer) receive(b []byte, at time.Time) {
	switch {
	case len(b) < 12:
	case b[0] < 4:
		v.stun(b)
	case b[0] >= 20 && b[0] < 64:
		v.dtls.put(b)
	case b[0] >= 128 && b[0] < 192 && (b[1] < 192 || b[1] > 223):
		v.mu.Lock()
		v.meter.packet(b, at)
		v.mu.Unlock()
	}
}

func (v *Viewer) stun(b []byte) {
	m := &stun.Message{Raw: bytes.Clone(b)}
	if m.Decode() != nil {
		return
	}
	switch m.Type {
	case stun.BindingSuccess:
		v.once.Do(func() { close(v.nominate) })
	case stun.BindingRequest:
		v.mu.Lock()
		remote := v.remote
		v.mu.Unlock()
		if !remote.IsValid() {
			return // it comes again
		}
		reply, err := stun.Build(m, stun.BindingSuccess, &stun.XORMappedAddress{IP: remote.Addr().AsSlice(), Port: int(remote.Port())},
			stun.NewShortTermIntegrity(v.local.pwd), stun.Fingerprint)
		if err == nil {
			_ = v.transmit(reply.Raw)
		}
	}
}

// Close ends the session by DELETE, if it was opened.
func (v *Viewer) Close(ctx context.Context, o Options) {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if v.location != "" {
		if r, err := http.NewRequestWithContext(ctx, http.MethodDelete, v.location, nil); err == nil {
			if o.Token != "" {
				r.Header.Set("Authorization", "Bearer "+o.Token)
			}
			if resp, err := o.Client.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}
	}
	close(v.stop)
	v.stopped.Wait()
	if v.conn != nil {
		_ = v.conn.Close()
	}
	_ = v.dtls.Close()
	v.loop.CloseSocket(v.socket)
}

func random(n int) string {
	var b [32]byte
	id := stun.NewTransactionID()
	sum := sha256.Sum256(id[:])
	copy(b[:], sum[:])
	return fmt.Sprintf("%x", b)[:n]
}

// offer writes what a browser's offer comes to.
func offer(c credentials, cert tls.Certificate, addr netip.AddrPort, mend bool) string {
	sum := sha256.Sum256(cert.Certificate[0])
	print := strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum)), " ", ":")
	transport := fmt.Sprintf("c=IN IP4 0.0.0.0\r\na=ice-ufrag:%s\r\na=ice-pwd:%s\r\na=ice-options:trickle\r\na=fingerprint:sha-256 %s\r\na=setup:actpass\r\na=rtcp-mux\r\na=recvonly\r\n",
		c.ufrag, c.pwd, print)
	wide := ""
	if mend {
		wide = fmt.Sprintf("a=rtcp-fb:102 transport-cc\r\na=extmap:%d http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n", transportID)
	}
	return "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=mid:0\r\n" + transport +
		"a=rtpmap:102 H264/90000\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n" +
		"a=rtcp-fb:102 nack\r\na=rtcp-fb:102 nack pli\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n" + wide +
		fmt.Sprintf("a=candidate:1 1 udp 2130706431 %s %d typ host\r\na=end-of-candidates\r\n", addr.Addr(), addr.Port()) +
		"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n" + transport + "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
}

// Vanish ends v without a word to the server, as a client does whose machine or network is gone.
func (v *Viewer) Vanish() {
	close(v.stop)
	v.stopped.Wait()
	v.loop.CloseSocket(v.socket)
	if v.conn != nil {
		_ = v.conn.Close() // its goodbye goes nowhere
	}
	_ = v.dtls.Close()
}
