package whip

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pion/stun/v3"

	"gantry/internal/secret"
)

// How ICE candidates reach the server.
const (
	Trickle = "trickle" // offer at once, candidates by PATCH as they are found (RFC 9725 §4.3.1); the fastest start
	Full    = "full"    // offer when all candidates are found: for servers without PATCH
)

// What the bitrate limits may be.
const (
	minBitrate = 50_000
	maxBitrate = 200_000_000
)

// A Config says where to and how to send. It is comparable.
type Config struct {
	URL    string        `yaml:"url"`    // the WHIP endpoint, http or https
	Token  secret.String `yaml:"token"`  // bearer token; empty: no Authorization header is sent
	Gather string        `yaml:"gather"` // Trickle or Full
	// Discover asks the endpoint for its ICE servers by OPTIONS before the offer. Servers name them in the answer as well; it
	// is for those that only do it so, and for Full.
	Discover bool       `yaml:"discover"`
	ICE      ICEServers `yaml:"ice"`
	Bitrate  Bitrate    `yaml:"bitrate"`
	// Interfaces are the network interfaces to go out by, separated by spaces; empty: as the machine routes. By two or more
	// the same packets go out: the relay takes each from whichever brings it first.
	Interfaces string `yaml:"interfaces"`
}

// ICEServers are STUN and TURN servers to use besides those that the WHIP server names.
type ICEServers struct {
	URLs       string        `yaml:"urls"` // stun:, turn: and turns: URIs (RFC 7064, RFC 7065), separated by spaces
	Username   string        `yaml:"username"`
	Credential secret.String `yaml:"credential"`
}

// Bitrate is what the estimate of the path may come to, in bit/s of all that is sent.
type Bitrate struct {
	Min int `yaml:"min" unit:"bit/s"`
	Max int `yaml:"max" unit:"bit/s"`
}

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Default returns the Config to start from: all but URL.
func Default() Config {
	return Config{Gather: Trickle, Bitrate: Bitrate{Min: 150_000, Max: 20_000_000}}
}

// Validate returns all that is wrong with c, each error beginning with its key.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{key}, args...)...))
	}
	if err := checkURL(c.URL); err != nil {
		bad("url", "%w", err)
	}
	if strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		bad("token", "has spaces or characters that no HTTP header takes")
	}
	if c.Gather != Trickle && c.Gather != Full {
		bad("gather", "%q is neither %s nor %s", c.Gather, Trickle, Full)
	}
	for _, u := range strings.Fields(c.ICE.URLs) {
		uri, err := stun.ParseURI(u)
		switch {
		case err != nil:
			bad("ice.urls", "%q is no stun:, turn: or turns: URI", u)
		case turn(uri) && (c.ICE.Username == "" || c.ICE.Credential == ""):
			bad("ice.username", "%q needs a username and a credential", u)
		}
	}
	if c.Bitrate.Min < minBitrate || c.Bitrate.Min > c.Bitrate.Max || c.Bitrate.Max > maxBitrate {
		bad("bitrate", "want %d ≤ min ≤ max ≤ %d, have min %d and max %d", minBitrate, maxBitrate, c.Bitrate.Min, c.Bitrate.Max)
	}
	names := strings.Fields(c.Interfaces)
	for i, name := range names {
		if len(name) > 15 || strings.Contains(name, "/") || slices.Contains(names[:i], name) || i == maxPaths {
			bad("interfaces", "%q: want up to %d different names such as eth0", c.Interfaces, maxPaths)
			break
		}
	}
	return errors.Join(errs...)
}

func checkURL(s string) error {
	if s == "" {
		return errors.New("is missing: it is the address of the WHIP endpoint, as https://example.net/whip/name")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is no URL") // the error of Parse would show a token in it
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return errors.New("names no host")
	case u.User != nil:
		return errors.New("has a user name or password in it: use token")
	case u.Fragment != "":
		return errors.New("has a #fragment, which no server sees")
	}
	return nil
}

func turn(u *stun.URI) bool {
	return u.Scheme == stun.SchemeTypeTURN || u.Scheme == stun.SchemeTypeTURNS
}
