package whip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/pion/sdp/v3"
	"github.com/pion/stun/v3"
	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"gantry/internal/proto/whip"
)

const maxICEServers = 8

// iceServers joins the configured servers with those that the WHIP server named. What cannot be used is left out: a session
// may well come up without it.
func iceServers(c ICEServers, links []whip.Link) []webrtc.ICEServer {
	var servers []webrtc.ICEServer
	for _, u := range strings.Fields(c.URLs) {
		servers = append(servers, webrtc.ICEServer{URLs: []string{u}, Username: c.Username, Credential: c.Credential.Reveal()})
	}
	for _, l := range links {
		if !l.Is(whip.RelICEServer) || len(servers) == maxICEServers {
			continue
		}
		uri, err := stun.ParseURI(l.URL)
		kind := l.Params["credential-type"]
		if err != nil || kind != "" && kind != "password" || turn(uri) && (l.Params["username"] == "" || l.Params["credential"] == "") {
			continue
		}
		servers = append(servers, webrtc.ICEServer{URLs: []string{l.URL}, Username: l.Params["username"], Credential: l.Params["credential"]})
	}
	return servers
}

// candidates collects what ICE gathers until it is sent.
type candidates struct {
	ready chan struct{} // something new

	mu      sync.Mutex
	waiting []whip.Candidate
	end     bool
	total   int
}

func newCandidates() *candidates { return &candidates{ready: make(chan struct{}, 1)} }

// add is pion's callback; nil says that gathering is complete.
func (c *candidates) add(found *webrtc.ICECandidate) {
	c.mu.Lock()
	if found == nil {
		c.end = true
	} else if init := found.ToJSON(); len(c.waiting) < whip.MaxCandidates {
		mid := "0"
		if init.SDPMid != nil && *init.SDPMid != "" {
			mid = *init.SDPMid
		}
		c.waiting = append(c.waiting, whip.Candidate{MID: mid, Value: init.Candidate})
		c.total++
	}
	c.mu.Unlock()
	notify(c.ready)
}

// take returns what was found since the last take, and whether gathering is complete.
func (c *candidates) take() ([]whip.Candidate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting
	c.waiting = nil
	return w, c.end
}

func (c *candidates) complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

func (c *candidates) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.end, c.total = nil, false, 0
}

// gathered waits for the end of gathering or of ctx.
func (c *candidates) gathered(ctx context.Context) {
	for !c.complete() {
		select {
		case <-c.ready:
		case <-ctx.Done():
			return
		}
	}
}

// fragment returns the ICE parameters of a description: those of its first media section, as all share one transport.
func fragment(description string) (whip.Fragment, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(description); err != nil || len(d.MediaDescriptions) == 0 {
		return whip.Fragment{}, fmt.Errorf("own description: %v", err)
	}
	m := d.MediaDescriptions[0]
	mid, _ := m.Attribute("mid")
	var f whip.Fragment
	f.Ufrag, _ = m.Attribute("ice-ufrag")
	f.Pwd, _ = m.Attribute("ice-pwd")
	for _, a := range m.Attributes {
		switch a.Key {
		case "candidate":
			f.Candidates = append(f.Candidates, whip.Candidate{MID: mid, Value: "candidate:" + a.Value})
		case "end-of-candidates":
			f.End = true
		}
	}
	return f, nil
}

// withICE returns a description with the ICE parameters of f instead of its own: both sides replace all candidates (RFC 9725
// §4.3.2).
func withICE(description string, f whip.Fragment) (string, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(description); err != nil {
		return "", err
	}
	d.Attributes = withoutICE(d.Attributes)
	if f.Lite {
		d.Attributes = append(d.Attributes, sdp.NewPropertyAttribute("ice-lite"))
	}
	for i, m := range d.MediaDescriptions {
		m.Attributes = append(withoutICE(m.Attributes), sdp.NewAttribute("ice-ufrag", f.Ufrag), sdp.NewAttribute("ice-pwd", f.Pwd))
		if i > 0 {
			continue
		}
		for _, c := range f.Candidates {
			m.Attributes = append(m.Attributes, sdp.NewAttribute("candidate", strings.TrimPrefix(c.Value, "candidate:")))
		}
		m.Attributes = append(m.Attributes, sdp.NewPropertyAttribute("end-of-candidates"))
	}
	b, err := d.Marshal()
	return string(b), err
}

// splitTCP takes the TCP candidates out of a description, unless it has no other.
func splitTCP(description string) (without string, tcp []string) {
	var kept []string
	udp := false
	for _, line := range strings.SplitAfter(description, "\n") {
		candidate, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "a=")
		if ok && strings.HasPrefix(candidate, "candidate:") {
			if f := strings.Fields(candidate); len(f) > 2 && strings.EqualFold(f[2], "tcp") {
				tcp = append(tcp, candidate)
				continue
			}
			udp = true
		}
		kept = append(kept, line)
	}
	if !udp {
		return description, nil
	}
	return strings.Join(kept, ""), tcp
}

func withoutICE(all []sdp.Attribute) []sdp.Attribute {
	kept := make([]sdp.Attribute, 0, len(all))
	for _, a := range all {
		switch a.Key {
		case "ice-ufrag", "ice-pwd", "ice-lite", "candidate", "end-of-candidates":
		default:
			kept = append(kept, a)
		}
	}
	return kept
}

// pathLost tells whether the local address that media leaves from is no longer this machine's. Other addresses that come and
// go are no reason to leave a path that works.
func pathLost(pair *webrtc.ICECandidatePair) bool {
	if pair == nil || pair.Local == nil {
		return false
	}
	text := pair.Local.Address
	if pair.Local.Typ != webrtc.ICECandidateTypeHost {
		text = pair.Local.RelatedAddress // the base of a reflexive or relayed candidate
	}
	local, err := netip.ParseAddr(text)
	if err != nil || local.IsUnspecified() {
		return false
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if have, ok := netip.AddrFromSlice(n.IP); ok && have.Unmap() == local.Unmap().WithZone("") {
				return false
			}
		}
	}
	return true
}

// currentNet is the machine's network as it is now. pion's own lists the interfaces once, so that an ICE restart would gather
// the addresses that are gone.
type currentNet struct {
	stdnet.Net
	control func(network, address string, c syscall.RawConn) error // of every socket; nil: none
}

// Interfaces lists them anew.
func (*currentNet) Interfaces() ([]*transport.Interface, error) {
	now, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return now.Interfaces()
}

// ListenUDP opens a socket as control wants it.
func (n *currentNet) ListenUDP(network string, local *net.UDPAddr) (transport.UDPConn, error) {
	if local == nil {
		local = &net.UDPAddr{}
	}
	c, err := (&net.ListenConfig{Control: n.control}).ListenPacket(context.Background(), network, local.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// DialTCP connects as control wants it.
func (n *currentNet) DialTCP(network string, local, remote *net.TCPAddr) (transport.TCPConn, error) {
	d := net.Dialer{Control: n.control}
	if local != nil {
		d.LocalAddr = local
	}
	c, err := d.Dial(network, remote.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// CreateDialer returns a dialer as control wants it.
func (n *currentNet) CreateDialer(d *net.Dialer) transport.Dialer {
	own := *d
	own.Control = n.control
	return n.Net.CreateDialer(&own)
}

func hostPort(c *webrtc.ICECandidate) string {
	return net.JoinHostPort(c.Address, strconv.Itoa(int(c.Port)))
}

// loopback tells whether a URL's host is this machine. Only then are loopback candidates of use.
func loopback(u *url.URL) bool {
	if u.Hostname() == "localhost" || strings.HasSuffix(u.Hostname(), ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.Unmap().IsLoopback()
}
