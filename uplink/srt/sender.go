// Package srt sends a programme as MPEG-TS over SRT (draft-sharabayko-srt-01), as caller or as listener, by datarhei's gosrt.
// SRT's statistics say what the path carries; that goes back as media.Feedback.
//
// gosrt has neither rendezvous mode nor bonding: a configuration that asks for them is refused.
package srt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/internal/linkrate"
	"gantry/internal/proto/mpegts"
	"gantry/internal/proto/srt"
	"gantry/internal/secret"
	"gantry/media"
	"gantry/uplink"
)

// Config describes one destination. It is comparable.
type Config struct {
	Addr       string        `yaml:"addr"`       // host:port to call, or to listen on
	Mode       string        `yaml:"mode"`       // caller or listener
	Stream     string        `yaml:"stream"`     // name at the destination
	Token      secret.String `yaml:"token"`      // that lets us publish there
	User       string        `yaml:"user"`       // where the destination wants one beside the token
	Dialect    string        `yaml:"dialect"`    // how the stream id is written: standard, colon, query or bare
	StreamID   secret.String `yaml:"streamid"`   // word for word, instead of stream, token, user and dialect
	Passphrase secret.String `yaml:"passphrase"` // AES passphrase of 10 to 79 characters; empty: not encrypted
	KeyLength  int           `yaml:"key_length"` // AES key in bits: 128, 192 or 256; libsrt listeners answer only to the length that they are set to
	Latency    time.Duration `yaml:"latency"`    // within which lost packets are sent again
}

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Default returns a caller's configuration for the open internet.
func Default() Config {
	return Config{Mode: "caller", Dialect: "standard", KeyLength: 128, Latency: 200 * time.Millisecond}
}

var dialects = map[string]srt.Dialect{"standard": srt.Standard, "colon": srt.Colon, "query": srt.Query, "bare": srt.Bare}

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		errs = append(errs, fmt.Errorf("addr: want host:port, got %q", c.Addr))
	}
	switch c.Mode {
	case "caller", "listener":
	case "rendezvous":
		errs = append(errs, errors.New("mode: rendezvous is not supported; make one side caller and the other listener"))
	default:
		errs = append(errs, fmt.Errorf("mode: want caller or listener, got %q", c.Mode))
	}
	if _, ok := dialects[c.Dialect]; !ok {
		errs = append(errs, fmt.Errorf("dialect: want standard, colon, query or bare, got %q", c.Dialect))
	} else if c.StreamID == "" && c.Stream != "" {
		if err := c.id().Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Mode == "caller" && c.StreamID == "" && c.Stream == "" {
		errs = append(errs, errors.New("stream: a caller names the stream, or gives a whole streamid"))
	}
	if len(c.StreamID.Reveal()) > srt.MaxStreamID {
		errs = append(errs, errors.New("streamid: at most 512 bytes"))
	}
	if n := len(c.Passphrase.Reveal()); n != 0 && (n < 10 || n > 79) {
		errs = append(errs, errors.New("passphrase: SRT wants 10 to 79 characters"))
	}
	if c.KeyLength != 128 && c.KeyLength != 192 && c.KeyLength != 256 {
		errs = append(errs, fmt.Errorf("key_length: want 128, 192 or 256, got %d", c.KeyLength))
	}
	if c.Latency < 20*time.Millisecond || c.Latency > 10*time.Second {
		errs = append(errs, fmt.Errorf("latency: want 20ms to 10s, got %v", c.Latency))
	}
	return errors.Join(errs...)
}

func (c Config) id() srt.StreamID {
	return srt.StreamID{Dialect: dialects[c.Dialect], Stream: c.Stream, User: c.User, Token: c.Token.Reveal()}
}

// URL returns the address that another program is given to do the same, with the secrets left out.
func (c Config) URL() string {
	c.Token = ""
	u := "srt://" + c.Addr + "?mode=" + c.Mode
	if c.StreamID == "" && c.Stream != "" {
		u += "&streamid=" + c.id().Quote()
	}
	return u
}

func (c Config) gosrt() gosrt.Config {
	g := gosrt.DefaultConfig()
	g.ReceiverLatency, g.PeerLatency = c.Latency, c.Latency
	g.ConnectionTimeout = 3 * time.Second
	g.PeerIdleTimeout = 5 * time.Second // as libsrt: an outage of some seconds is no end
	g.PayloadSize = mpegts.Datagram
	g.MaxBW = -1
	if c.Passphrase != "" {
		g.Passphrase, g.PBKeylen = c.Passphrase.Reveal(), c.KeyLength/8
	}
	if c.Mode == "caller" {
		if g.StreamId = c.StreamID.Reveal(); g.StreamId == "" {
			g.StreamId = c.id().String()
		}
	}
	return g
}

// A Sender serves one destination; see uplink.Sender.
type Sender struct {
	cfg   Config
	log   *slog.Logger
	stats atomic.Pointer[uplink.Stats]
	past  past
}

var _ uplink.Reporter = (*Sender)(nil)

// past is what earlier connections have counted.
type past struct{ packets, bytes, retransmitted, dropped uint64 }

// New returns a Sender for a valid Config.
func New(cfg Config, log *slog.Logger) *Sender { return &Sender{cfg: cfg, log: log} }

// Stats returns the newest snapshot, zero before the first connection; of several peers the sums, and the worst of the rest.
func (s *Sender) Stats() uplink.Stats {
	if p := s.stats.Load(); p != nil {
		return *p
	}
	return uplink.Stats{}
}

// Run is uplink.Sender's. A listener's Run lasts until ctx ends, whoever comes and goes.
func (s *Sender) Run(ctx context.Context, p uplink.Program) error {
	if s.cfg.Mode == "listener" {
		return s.listen(ctx, p)
	}
	conn, err := srt.Dial(ctx, s.cfg.Addr, s.cfg.gosrt())
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("call %s: %w", s.cfg.Addr, explain(err))
	}
	peers := &peers{}
	link, err := newPeer(conn, p, s.cfg.Latency)
	if err != nil {
		conn.Close()
		return err
	}
	peers.add(link)
	defer peers.close()
	if p.Connected != nil {
		p.Connected()
	}
	s.log.Info("uplink connected", "remote", s.cfg.Addr)
	return s.send(ctx, p, peers, link.gone)
}

// rejections says in words why a destination refuses; a person must act on any of them.
var rejections = map[gosrt.RejectionReason]string{
	gosrt.REJX_UNAUTHORIZED: "the token is not accepted",
	gosrt.REJX_FORBIDDEN:    "publishing is forbidden",
	gosrt.REJX_BAD_REQUEST:  "the stream id is not understood",
	gosrt.REJX_BAD_MODE:     "publishing is not offered on this port",
	gosrt.REJ_BADSECRET:     "the passphrase is wrong",
	gosrt.REJ_UNSECURE:      "one side encrypts and the other does not: set the passphrase on both or neither",
}

// explain finds the reason for which the destination refused: gosrt has it in its error's text only, in base 32.
func explain(err error) error {
	_, code, ok := strings.Cut(err.Error(), "REJECT (")
	code, _, closed := strings.Cut(code, ")")
	n, parseErr := strconv.ParseUint(code, 32, 32)
	if !ok || !closed || parseErr != nil {
		return err
	}
	if words, ok := rejections[gosrt.RejectionReason(n)]; ok {
		return fmt.Errorf("%s: %w", words, uplink.ErrRefused)
	}
	return fmt.Errorf("rejected with SRT code %d", n)
}

// send writes packets to all peers until ctx ends or gone (nil for a listener) is closed.
func (s *Sender) send(ctx context.Context, p uplink.Program, peers *peers, gone <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.end()
	var watch sync.WaitGroup
	defer watch.Wait()
	lost := errors.New("the peer has closed the connection, or is out of reach")
	watch.Go(func() {
		tick := time.NewTicker(linkrate.SampleEvery)
		defer tick.Stop()
		start := time.Now()
		for {
			select {
			case <-gone:
				cancel(lost)
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				stats := peers.sample(time.Since(start))
				stats.Packets += s.past.packets
				stats.Bytes += s.past.bytes
				stats.Retransmitted += s.past.retransmitted
				stats.Dropped += s.past.dropped
				s.stats.Store(&stats)
				if stats.Estimate > 0 {
					p.Feedback(media.Feedback{Bitrate: stats.Estimate})
				}
			}
		}
	})
	defer cancel(nil) // before watch.Wait
	for {
		packet, err := p.Packets.Pull(ctx)
		if err != nil {
			if context.Cause(ctx) == lost {
				return fmt.Errorf("send to %s: %w", s.cfg.Addr, lost)
			}
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if peers.write(packet) {
			p.Feedback(media.Feedback{KeyFrame: true})
		}
	}
}

// end keeps the counters of a connection, and nothing else of it.
func (s *Sender) end() {
	now := s.Stats()
	s.past = past{now.Packets, now.Bytes, now.Retransmitted, now.Dropped}
	s.stats.Store(&uplink.Stats{Packets: now.Packets, Bytes: now.Bytes, Retransmitted: now.Retransmitted, Dropped: now.Dropped})
}
