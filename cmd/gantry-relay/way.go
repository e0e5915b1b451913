package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/internal/secret"
)

// An iceServer is a STUN or TURN server that clients are told of (RFC 9725 §4.6).
type iceServer struct {
	URL        string        `yaml:"url"`
	Username   string        `yaml:"username"`
	Credential secret.String `yaml:"credential"`
	Secret     secret.String `yaml:"secret"` // shared with the TURN server, which checks credentials that are made for each client
}

// credentialLife is how long credentials made of a shared secret last: longer than anybody watches.
const credentialLife = 12 * time.Hour

// iceURL is an address as RFC 7064 and RFC 7065 have it.
var iceURL = regexp.MustCompile(`^(stuns?|turns?):(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(\?transport=(udp|tcp))?$`)

// Validate says what is wrong with s.
func (s iceServer) Validate() error {
	turn := strings.HasPrefix(s.URL, "turn")
	switch {
	case !iceURL.MatchString(s.URL):
		return fmt.Errorf("url: %q is none of stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp or tcp], turns:…", s.URL)
	case turn && s.Secret == "" && (s.Username == "" || s.Credential == ""):
		return errors.New("a TURN server wants username and credential, or secret")
	case s.Secret != "" && s.Credential != "":
		return errors.New("set credential or secret, not both")
	case !turn && (s.Username != "" || s.Credential != "" || s.Secret != ""):
		return errors.New("a STUN server has no credentials")
	}
	return nil
}

// link returns s as a client is told of it at a time.
func (s iceServer) link(now time.Time) whip.Link {
	l := whip.Link{URL: s.URL, Rel: whip.RelICEServer}
	user, credential := s.Username, s.Credential.Reveal()
	if s.Secret != "" { // as coturn and others have it: draft-uberti-behave-turn-rest
		expiry := strconv.FormatInt(now.Add(credentialLife).Unix(), 10)
		if user != "" {
			expiry += ":" + user
		}
		mac := hmac.New(sha1.New, []byte(s.Secret.Reveal()))
		_, _ = mac.Write([]byte(expiry))
		user, credential = expiry, base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	if user != "" {
		l.Params = map[string]string{"username": user, "credential": credential, "credential-type": "password"}
	}
	return l
}

// links is what an endpoint tells clients that it lets in.
func (c Config) links(string, string) []whip.Link {
	links := make([]whip.Link, len(c.ICEServers))
	for i, s := range c.ICEServers {
		links[i] = s.link(time.Now())
	}
	return links
}

// learnAddress learns the public address from a STUN server, if there is one, until ctx ends.
func learnAddress(ctx context.Context, port *rtc.Port, server string) error {
	if server == "" {
		return nil
	}
	return port.Reflect(ctx, server)
}

// A network is whose requests are believed to come from elsewhere.
type network struct{ netip.Prefix }

// UnmarshalText reads an address or a prefix.
func (n *network) UnmarshalText(text []byte) error {
	if a, err := netip.ParseAddr(string(text)); err == nil {
		n.Prefix = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("%q is neither an IP address nor a network such as 10.0.0.0/8", text)
	}
	n.Prefix = p.Masked()
	return nil
}

// behind gives requests that came by a trusted proxy their client's address, so that limits count clients. What anybody else
// says in X-Forwarded-For is nothing.
func behind(proxies []network, next http.Handler) http.Handler {
	if len(proxies) == 0 {
		return next
	}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(n network) bool { return n.Contains(a.Unmap().WithZone("")) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remote, err := netip.ParseAddrPort(r.RemoteAddr)
		if err == nil && trusted(remote.Addr()) {
			if client := forwardedFor(r.Header.Values("X-Forwarded-For"), trusted); client.IsValid() {
				r = r.WithContext(r.Context())
				r.RemoteAddr = net.JoinHostPort(client.String(), "0")
			}
		}
		next.ServeHTTP(w, r)
	})
}

// forwardedFor returns the last address that a proxy which is not trusted, or the client itself, cannot have made up.
func forwardedFor(fields []string, trusted func(netip.Addr) bool) (client netip.Addr) {
	hops := strings.Split(strings.Join(fields, ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		a, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if at, e := netip.ParseAddrPort(hop); err != nil && e == nil {
			a, err = at.Addr(), nil
		}
		if err != nil {
			return client
		}
		if client = a.Unmap(); !trusted(client) {
			return client
		}
	}
	return client
}
