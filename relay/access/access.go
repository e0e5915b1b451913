// Package access decides who may publish to a relay and who may watch: one set of tokens for each, compared in constant
// time, and the rule that a relay which others can reach asks publishers for one.
//
// It knows no stream, no protocol and no user; where a request carries its token is the only thing it knows of HTTP.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"gantry/internal/secret"
)

var (
	// ErrNoToken: the request carries no token and one is asked for.
	ErrNoToken = errors.New("a token is needed")
	// ErrWrongToken: the request carries a token that is not accepted.
	ErrWrongToken = errors.New("the token is not accepted")
)

// The lengths a token may have. Shorter ones can be guessed over the network; longer ones do not fit a header line.
const (
	MinToken = 8
	MaxToken = 512
)

// Config holds the tokens in clear. Any of a set is good for every stream.
type Config struct {
	Publish []secret.String // empty: anybody may publish
	Play    []secret.String // empty: anybody may watch
}

// Validate says which token is unusable, without showing it. A token is visible ASCII, so that it fits an HTTP header
// (RFC 6750 §2.1) and a URL.
func (c Config) Validate() error {
	check := func(kind string, tokens []secret.String) error {
		for i, t := range tokens {
			s := t.Reveal()
			if len(s) < MinToken || len(s) > MaxToken {
				return fmt.Errorf("%s token %d has %d characters: want %d to %d", kind, i+1, len(s), MinToken, MaxToken)
			}
			if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				return fmt.Errorf("%s token %d: want visible ASCII characters without spaces", kind, i+1)
			}
		}
		return nil
	}
	return errors.Join(check("publish", c.Publish), check("play", c.Play))
}

// A Policy tells whether a token is good. A nil Policy lets everybody in. It is safe for concurrent use.
type Policy struct{ publish, play digests }

// New returns the Policy of a valid Config, nil when it holds no token.
func New(c Config) *Policy {
	if len(c.Publish) == 0 && len(c.Play) == 0 {
		return nil
	}
	return &Policy{publish: newDigests(c.Publish), play: newDigests(c.Play)}
}

// Publish returns nil when token lets its bearer publish stream, else ErrNoToken or ErrWrongToken.
func (p *Policy) Publish(token, stream string) error {
	if p == nil {
		return nil
	}
	return p.publish.check(token)
}

// Play returns nil when token lets its bearer watch stream, else ErrNoToken or ErrWrongToken.
func (p *Policy) Play(token, stream string) error {
	if p == nil {
		return nil
	}
	return p.play.check(token)
}

// AsksPublishers tells whether a token is needed to publish.
func (p *Policy) AsksPublishers() bool { return p != nil && len(p.publish) > 0 }

// AsksViewers tells whether a token is needed to watch.
func (p *Policy) AsksViewers() bool { return p != nil && len(p.play) > 0 }

// digests are hashes of the accepted tokens: equal in length, so that comparing tells nothing of the tokens'.
type digests [][sha256.Size]byte

func newDigests(tokens []secret.String) digests {
	d := make(digests, len(tokens))
	for i, t := range tokens {
		d[i] = sha256.Sum256([]byte(t.Reveal()))
	}
	return d
}

// check compares with every token, whichever is the right one.
func (d digests) check(token string) error {
	if len(d) == 0 {
		return nil
	}
	if token == "" {
		return ErrNoToken
	}
	got := sha256.Sum256([]byte(token))
	good := 0
	for i := range d {
		good |= subtle.ConstantTimeCompare(got[:], d[i][:])
	}
	if good == 0 {
		return ErrWrongToken
	}
	return nil
}

// Token returns the token that a request carries: a bearer token in the Authorization header (RFC 6750 §2.1), else the
// query parameter token. It is empty where there is neither.
func Token(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return r.URL.Query().Get("token")
}

// CheckListen refuses to serve publishers on an address that other machines can reach unless they are asked for a token. The
// error says how to set one, with a fresh token as an example; nothing is set by default.
func (p *Policy) CheckListen(addr string) error {
	if p.AsksPublishers() || loopback(addr) {
		return nil
	}
	return fmt.Errorf("listening on %s lets anybody who reaches this machine publish. Set a publish token, for instance\n"+
		"\tGANTRY_PUBLISH_TOKEN=%s\n"+
		"in the environment, or publish-token in the configuration file; or listen on this machine alone: --http 127.0.0.1:8080",
		addr, rand.Text())
}

// loopback tells whether a listening address, host:port, is reached from this machine alone. A name other than localhost may
// resolve to anything, so it is not.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
