package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"gantry/internal/config"
	"gantry/internal/rtc"
	"gantry/internal/secret"
	"gantry/relay"
	"gantry/relay/access"
	"gantry/relay/egress/restream"
	whepegress "gantry/relay/egress/whep"
	"gantry/relay/ingest/pull"
	"gantry/relay/ingest/srt"
	"gantry/relay/record"
)

// Config is the relay's, as its file has it.
type Config struct {
	HTTP            string          `yaml:"http"`
	RTC             string          `yaml:"rtc"`
	PublicAddresses []address       `yaml:"public-address"`
	PublishTokens   []secret.String `yaml:"publish-token"`
	PlayTokens      []secret.String `yaml:"play-token"`
	TLSCert         string          `yaml:"tls-cert"`
	TLSKey          string          `yaml:"tls-key"`
	Hold            time.Duration   `yaml:"hold"`
	Offline         offline         `yaml:"offline"`
	PlayoutDelay    time.Duration   `yaml:"playout-delay"`
	Log             level           `yaml:"log"`

	Others `yaml:",inline"`
}

// Others are the ways in and out beside WHIP and WHEP.
type Others struct {
	SRT            string                   `yaml:"srt"`
	SRTLatency     time.Duration            `yaml:"srt-latency"`
	SRTPassphrase  secret.String            `yaml:"srt-passphrase"`
	SRTPassphrases map[string]secret.String `yaml:"srt-passphrases"` // by stream
	RTMP           string                   `yaml:"rtmp"`
	RTMPS          string                   `yaml:"rtmps"` // where there is a certificate
	Pull           []pull.Config            `yaml:"pull"`
	Restream       []restream.Destination   `yaml:"restream"`
	Recording      record.Config            `yaml:"recording"`
	StateDir       string                   `yaml:"state-dir"` // of what the API changed; empty: that is forgotten at the end

	STUNServer     string      `yaml:"stun-server"`
	ICELite        bool        `yaml:"ice-lite"`
	ICEServers     []iceServer `yaml:"ice-servers"`
	TrustedProxies []network   `yaml:"trusted-proxy"`
}

// An address is an IP address that peers can be told of.
type address struct{ netip.Addr }

// UnmarshalText reads an IP address.
func (a *address) UnmarshalText(text []byte) (err error) {
	if a.Addr, err = netip.ParseAddr(string(text)); err != nil {
		return fmt.Errorf("%q is no IP address (a name will not do: peers are told the address)", text)
	}
	if a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("%v is not an address that peers can reach", a.Addr)
	}
	return nil
}

// What viewers see while nobody publishes.
const (
	offlineLast  = "last"  // the picture that came last
	offlineSlate = "slate" // a picture with the relay's own words
)

// offline is what viewers see while nobody publishes, as the file has it: last, slate, or the slate's own words.
type offline struct {
	show  string
	words string
}

// defaultWords are what a slate says.
const defaultWords = "The stream will be back\nin a moment"

// UnmarshalText reads "last", "slate" or "slate: WORDS".
func (o *offline) UnmarshalText(text []byte) error {
	show, words, found := strings.Cut(string(text), ":")
	*o = offline{show: strings.TrimSpace(show), words: strings.TrimSpace(strings.ReplaceAll(words, `\n`, "\n"))}
	switch {
	case o.show == offlineLast && !found:
	case o.show == offlineSlate && !found:
		o.words = defaultWords
	case o.show == offlineSlate && o.words != "" && len(o.words) <= 200:
	default:
		return fmt.Errorf("%q is none of last, slate, or \"slate: WORDS\" with at most 200 letters", text)
	}
	return nil
}

// A level is how much is logged.
type level struct{ slog.Level }

// UnmarshalText reads a level's name.
func (l *level) UnmarshalText(text []byte) error {
	if err := l.Level.UnmarshalText(text); err != nil {
		return fmt.Errorf("%q is none of debug, info, warn, error", text)
	}
	return nil
}

func defaults() Config {
	s := srt.Default()
	return Config{HTTP: ":8080", RTC: rtc.Default().Addr, Hold: relay.Default().Hold, Offline: offline{show: offlineLast},
		PlayoutDelay: whepegress.Default().PlayoutDelay,
		Others:       Others{SRT: s.Addr, SRTLatency: s.Latency, RTMP: ":1935", RTMPS: ":1936", Recording: record.Default()}}
}

// beside puts the host of HTTP into an address that has none: a relay for this machine alone is that on all its ports.
func (c Config) beside(addr string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil && host == "" {
		host, _, _ = net.SplitHostPort(c.HTTP)
		return net.JoinHostPort(host, port)
	}
	return addr
}

func (c Config) srt() srt.Config {
	return srt.Config{Addr: c.beside(c.SRT), Latency: c.SRTLatency, Passphrase: c.SRTPassphrase}
}

func (c Config) access() access.Config {
	return access.Config{Publish: c.PublishTokens, Play: c.PlayTokens}
}

func (c Config) rtc() rtc.Config {
	r := rtc.Default()
	r.Addr, r.Lite = c.RTC, c.ICELite
	for _, a := range c.PublicAddresses {
		r.PublicAddrs = append(r.PublicAddrs, a.Addr)
	}
	return r
}

func (c Config) whep() whepegress.Config {
	w := whepegress.Default()
	w.PlayoutDelay = c.PlayoutDelay
	return w
}

func (c Config) hub() relay.Config {
	h := relay.Default()
	h.Hold = c.Hold
	return h
}

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	hostPort := func(key, addr string) {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not host:port, such as :8080 or 127.0.0.1:8080", key, addr))
		}
	}
	hostPort("http", c.HTTP)
	hostPort("rtc", c.RTC)
	for _, p := range []struct{ key, addr string }{{"srt", c.SRT}, {"rtmp", c.RTMP}, {"rtmps", c.RTMPS}} {
		if p.addr != "" {
			hostPort(p.key, p.addr)
		}
	}
	if s := (srt.Config{Addr: ":0", Latency: c.SRTLatency}); s.Validate() != nil {
		errs = append(errs, fmt.Errorf("srt-%w", s.Validate()))
	}
	if err := srt.ValidPassphrase(c.SRTPassphrase); err != nil {
		errs = append(errs, fmt.Errorf("srt-passphrase: %w", err))
	}
	for _, name := range slices.Sorted(maps.Keys(c.SRTPassphrases)) {
		if err := srt.ValidPassphrase(c.SRTPassphrases[name]); err != nil || !relay.ValidName(name) {
			errs = append(errs, fmt.Errorf("srt-passphrases: %s: %w", name, cmp.Or(err, relay.ErrName)))
		}
	}
	if err := (access.Config{Publish: c.PublishTokens}).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("publish-token: %w", err))
	}
	if err := (access.Config{Play: c.PlayTokens}).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("play-token: %w", err))
	}
	if c.STUNServer != "" && !iceURL.MatchString("stun:"+c.STUNServer) {
		errs = append(errs, fmt.Errorf("stun-server: %q is not host or host:port", c.STUNServer))
	}
	for i, s := range c.ICEServers {
		if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("ice-servers[%d]: %w", i, err))
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("tls-cert: a certificate and a key belong together: set tls-cert and tls-key, or neither"))
	}
	for i, p := range c.Pull {
		if slices.ContainsFunc(c.Pull[:i], func(o pull.Config) bool {
			return o.Name == p.Name && (o.Layer == p.Layer || o.Layer == "" || p.Layer == "")
		}) {
			errs = append(errs, fmt.Errorf("pull[%d].name: %q is used twice; layers of one stream have each its own simulcastId", i, p.Name))
		}
	}
	for i, d := range c.Restream {
		if _, _, err := openUplink(slog.New(slog.DiscardHandler))(d); err != nil {
			errs = append(errs, fmt.Errorf("restream[%d].%w", i, err))
		}
		if slices.ContainsFunc(c.Restream[:i], func(o restream.Destination) bool { return o.Stream == d.Stream && o.Name == d.Name }) {
			errs = append(errs, fmt.Errorf("restream[%d].name: %q is used twice for this stream", i, d.Name))
		}
	}
	if err := c.hub().Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.whep().Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// configError marks an error that is the user's to mend.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// loadFile reads a configuration file over the defaults.
func loadFile(name string) (Config, error) {
	c := defaults()
	err := config.Load(name, &c)
	return c, err
}

// configFlags declares the flags. The function it returns merges defaults, file, environment and flags, after Parse.
func configFlags(flags *flag.FlagSet) func(getenv func(string) string) (Config, error) {
	file := flags.String("config", "", "")
	var set []func(*Config)
	text := func(name string, apply func(c *Config, s string)) {
		flags.Func(name, "", func(s string) error {
			set = append(set, func(c *Config) { apply(c, s) })
			return nil
		})
	}
	parsed := func(name string, parse func(s string) (func(*Config), error)) {
		flags.Func(name, "", func(s string) error {
			apply, err := parse(s)
			set = append(set, apply)
			return err
		})
	}
	var publishTokens, playTokens []secret.String
	var addresses []address
	var proxies []network
	text("http", func(c *Config, s string) { c.HTTP = s })
	text("rtc", func(c *Config, s string) { c.RTC = s })
	text("stun-server", func(c *Config, s string) { c.STUNServer = s })
	text("srt", func(c *Config, s string) { c.SRT = s })
	text("srt-passphrase", func(c *Config, s string) { c.SRTPassphrase = secret.String(s) })
	text("rtmp", func(c *Config, s string) { c.RTMP = s })
	text("rtmps", func(c *Config, s string) { c.RTMPS = s })
	text("state-dir", func(c *Config, s string) { c.StateDir = s })
	text("tls-cert", func(c *Config, s string) { c.TLSCert = s })
	text("tls-key", func(c *Config, s string) { c.TLSKey = s })
	text("publish-token", func(c *Config, s string) {
		publishTokens = append(publishTokens, secret.String(s))
		c.PublishTokens = publishTokens
	})
	text("play-token", func(c *Config, s string) {
		playTokens = append(playTokens, secret.String(s))
		c.PlayTokens = playTokens
	})
	parsed("public-address", func(s string) (func(*Config), error) {
		var a address
		err := a.UnmarshalText([]byte(s))
		addresses = append(addresses, a)
		return func(c *Config) { c.PublicAddresses = addresses }, err
	})
	parsed("trusted-proxy", func(s string) (func(*Config), error) {
		var n network
		err := n.UnmarshalText([]byte(s))
		proxies = append(proxies, n)
		return func(c *Config) { c.TrustedProxies = proxies }, err
	})
	flags.BoolFunc("ice-lite", "", func(s string) error {
		lite, err := strconv.ParseBool(s)
		set = append(set, func(c *Config) { c.ICELite = lite })
		return err
	})
	duration := func(name string, apply func(c *Config, d time.Duration)) {
		parsed(name, func(s string) (func(*Config), error) {
			d, err := time.ParseDuration(s)
			return func(c *Config) { apply(c, d) }, err
		})
	}
	duration("playout-delay", func(c *Config, d time.Duration) { c.PlayoutDelay = d })
	duration("hold", func(c *Config, d time.Duration) { c.Hold = d })
	parsed("offline", func(s string) (func(*Config), error) {
		var o offline
		err := o.UnmarshalText([]byte(s))
		return func(c *Config) { c.Offline = o }, err
	})
	duration("srt-latency", func(c *Config, d time.Duration) { c.SRTLatency = d })
	parsed("log", func(s string) (func(*Config), error) {
		var l level
		err := l.UnmarshalText([]byte(s))
		return func(c *Config) { c.Log = l }, err
	})
	return func(getenv func(string) string) (Config, error) {
		c := defaults()
		if *file != "" {
			var err error
			if c, err = loadFile(*file); err != nil {
				return c, err
			}
		}
		tokens := func(variable string, into *[]secret.String) {
			if words := strings.Fields(getenv(variable)); len(words) > 0 {
				*into = nil
				for _, w := range words {
					*into = append(*into, secret.String(w))
				}
			}
		}
		if c.StateDir == "" {
			c.StateDir, _, _ = strings.Cut(getenv("STATE_DIRECTORY"), ":") // systemd.exec(5), StateDirectory=
		}
		tokens("GANTRY_PUBLISH_TOKEN", &c.PublishTokens)
		tokens("GANTRY_PLAY_TOKEN", &c.PlayTokens)
		if p := getenv("GANTRY_SRT_PASSPHRASE"); p != "" {
			c.SRTPassphrase = secret.String(p)
		}
		for _, apply := range set {
			apply(&c)
		}
		return c, c.Validate()
	}
}
