// Package rtmp publishes a programme over RTMP or RTMPS, enhanced RTMP for H.265, AV1 and Opus, by bluenviron's gortmplib. The
// kernel's TCP statistics say what the path carries; that goes back as media.Feedback.
//
// It does not know whether a platform takes more than H.264 and AAC: most do not.
package rtmp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortmplib"

	"gantry/internal/secret"
	"gantry/media"
	"gantry/uplink"
)

const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 10 * time.Second
)

// Platforms are the ingest addresses of services that want only a stream key.
var Platforms = map[string]string{
	"youtube":        "rtmps://a.rtmps.youtube.com/live2",
	"youtube-backup": "rtmps://b.rtmps.youtube.com/live2?backup=1",
	"twitch":         "rtmps://ingest.global-contribute.live-video.net:443/app",
	"facebook":       "rtmps://live-api-s.facebook.com:443/rtmp",
}

// Config describes one destination. It is comparable.
type Config struct {
	Platform string        `yaml:"platform"` // one of Platforms, instead of url
	URL      string        `yaml:"url"`      // rtmp://host[:port]/app or rtmps://…; may hold the stream name as well
	Key      secret.String `yaml:"key"`      // stream key, with its query if it has one
	// Insecure accepts any certificate of an rtmps server: for tests and private networks.
	Insecure bool `yaml:"insecure"`
}

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Default returns an empty Config.
func Default() Config { return Config{} }

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var errs []error
	if c.Platform != "" {
		if _, ok := Platforms[c.Platform]; !ok {
			names := make([]string, 0, len(Platforms))
			for n := range Platforms {
				names = append(names, n)
			}
			slices.Sort(names)
			errs = append(errs, fmt.Errorf("platform: want one of %s, got %q", strings.Join(names, ", "), c.Platform))
		}
		if c.URL != "" {
			errs = append(errs, errors.New("url: not together with platform"))
		}
		if c.Key == "" {
			errs = append(errs, errors.New("key: the platform wants the stream key from its live dashboard"))
		}
	} else if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "rtmp" && u.Scheme != "rtmps" {
		errs = append(errs, fmt.Errorf("url: want rtmp://host/app or rtmps://host/app, got %q", c.URL))
	}
	if strings.ContainsAny(c.Key.Reveal(), " \t\r\n#") {
		errs = append(errs, errors.New("key: no spaces, line ends or #; copy it anew"))
	}
	return errors.Join(errs...)
}

// target returns the URL that the library wants: the stream key in the fragment, or in the path when the Config has no key.
func (c Config) target() (*url.URL, error) {
	base := c.URL
	if c.Platform != "" {
		base = Platforms[c.Platform]
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if c.Key != "" {
		key := c.Key.Reveal()
		if u.RawQuery != "" {
			sep := "?"
			if strings.Contains(key, "?") {
				sep = "&"
			}
			key += sep + u.RawQuery
			u.RawQuery = ""
		}
		u.Fragment = key
		return u, nil
	}
	// The last part of the path is the stream name.
	path := strings.Trim(u.Path, "/")
	if i := strings.LastIndex(path, "/"); i >= 0 {
		u.Path, u.Fragment = "/"+path[:i], path[i+1:]
	} else {
		u.Path, u.Fragment = "/live", path
	}
	if u.RawQuery != "" {
		u.Fragment += "?" + u.RawQuery
		u.RawQuery = ""
	}
	return u, nil
}

// A Sender serves one destination; see uplink.Sender.
type Sender struct {
	cfg   Config
	log   *slog.Logger
	stats atomic.Pointer[uplink.Stats]
	past  uint64 // bytes of earlier connections
}

var _ uplink.Reporter = (*Sender)(nil)

// New returns a Sender for a valid Config.
func New(cfg Config, log *slog.Logger) *Sender { return &Sender{cfg: cfg, log: log} }

// Stats returns the newest snapshot, zero before the first connection.
func (s *Sender) Stats() uplink.Stats {
	if p := s.stats.Load(); p != nil {
		return *p
	}
	return uplink.Stats{}
}

// Run is uplink.Sender's.
func (s *Sender) Run(ctx context.Context, p uplink.Program) error {
	err := s.run(ctx, p)
	s.past = s.Stats().Bytes
	s.stats.Store(&uplink.Stats{Bytes: s.past})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return s.redact(err)
	}
	return nil
}

// redact keeps the stream key out of an error that quotes the URL.
func (s *Sender) redact(err error) error {
	key := s.cfg.Key.Reveal()
	if key == "" || !strings.Contains(err.Error(), key) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), key, secret.Redacted))
}

func (s *Sender) run(ctx context.Context, p uplink.Program) error {
	target, err := s.cfg.target()
	if err != nil {
		return err
	}
	mux, err := newMuxer(p.Tracks)
	if err != nil {
		return err
	}
	link := &link{}
	client := &gortmplib.Client{URL: target, Publish: true, DialContext: link.dial}
	if s.cfg.Insecure {
		client.TLSConfig = &tls.Config{InsecureSkipVerify: true}
	}
	connect, cancel := context.WithTimeout(ctx, connectTimeout)
	stop := context.AfterFunc(connect, link.close) // the handshake itself does not look at a context
	err = client.Initialize(connect)
	stop()
	expired := connect.Err()
	cancel()
	defer link.close()
	if err != nil {
		if expired != nil {
			err = errors.New("no answer in time")
		}
		return fmt.Errorf("connect to %s: %w", target.Host, err)
	}
	defer context.AfterFunc(ctx, link.close)()

	ended, watch := make(chan struct{}), sync.WaitGroup{}
	defer watch.Wait()
	defer close(ended)
	watch.Go(func() { s.watch(link, p, ended) })
	watch.Go(func() { // what the server says is of no interest, but it must be read
		for {
			if _, err := client.Read(); err != nil {
				link.close()
				return
			}
		}
	})
	defer link.close() // before watch.Wait
	p.Feedback(media.Feedback{KeyFrame: true})
	for {
		packet, err := p.Packets.Pull(ctx)
		if err != nil {
			return err
		}
		begun := mux.begun()
		if err := link.deadline(writeTimeout); err != nil {
			return fmt.Errorf("send to %s: %w", target.Host, err)
		}
		if err := mux.write(client, packet); err != nil {
			if errors.Is(err, net.ErrClosed) {
				err = errors.New("the server has closed the connection; is the stream key right?")
			}
			return fmt.Errorf("send to %s: %w", target.Host, err)
		}
		if !begun && mux.begun() {
			s.log.Info("uplink connected", "remote", target.Host)
			if p.Connected != nil {
				p.Connected()
			}
		}
		link.wrote(client.BytesSent())
	}
}
