// Package rtsp pulls coded pictures and sound from a camera or server by RTSP (RFC 2326), by bluenviron's gortsplib: over TCP or
// UDP, with basic or digest authentication. It implements device.PacketSource and passes H.264, H.265, AAC and Opus on as they
// come, as access units on this machine's clock.
//
// It decodes nothing, and does not reconnect by itself: after an error the caller opens it anew.
package rtsp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"

	"gantry/device"
	"gantry/internal/proto/pin"
	"gantry/internal/secret"
	"gantry/media"
)

const (
	answerLimit = 5 * time.Second // for each request, and between packets
	queueLimit  = time.Second     // of media that waits for Read
)

// Config describes one source. It is comparable.
type Config struct {
	URL       string        `yaml:"url"`       // rtsp://host[:port]/path or rtsps://…, without user and password
	User      string        `yaml:"user"`      // for basic or digest authentication, as the server asks
	Password  secret.String `yaml:"password"`  //
	Transport string        `yaml:"transport"` // tcp, udp, or auto: udp, and tcp where no packet comes
	// Fingerprint is the SHA-256 of the server's certificate, for one that no authority vouches for; "" asks the authorities.
	Fingerprint string `yaml:"fingerprint"`
}

// Default returns TCP: no camera is too old for it, and no packet is lost.
func Default() Config { return Config{Transport: "tcp"} }

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var errs []error
	switch u, err := url.Parse(c.URL); {
	case c.URL == "": // not in use
	case err != nil || u.Host == "" || u.Scheme != "rtsp" && u.Scheme != "rtsps":
		errs = append(errs, errors.New("url: want rtsp://host/path or rtsps://host/path"))
	case u.User != nil:
		errs = append(errs, errors.New("url: has a user name or password in it: use user and password"))
	}
	if c.Transport != "tcp" && c.Transport != "udp" && c.Transport != "auto" {
		errs = append(errs, fmt.Errorf("transport: %q is not one of tcp, udp, auto", c.Transport))
	}
	if err := pin.Validate(c.Fingerprint); err != nil {
		errs = append(errs, fmt.Errorf("fingerprint: %w", err))
	}
	if c.User == "" && c.Password != "" {
		errs = append(errs, errors.New("user: is missing, and there is a password"))
	}
	return errors.Join(errs...)
}

// A Source is one connection. It implements device.PacketSource.
type Source struct {
	config Config
	run    *session // nil while not started
}

var _ device.PacketSource = (*Source)(nil)

// New returns a Source for a valid Config. It does not connect.
func New(c Config) *Source { return &Source{config: c} }

// A session is a connection that plays.
type session struct {
	client *gortsplib.Client
	queue  *media.Queue
	clock  timeline
	done   chan struct{} // closed when the client has ended

	mu      sync.Mutex
	waiting bool // for a key frame
}

// Start implements device.PacketSource. Its error wraps device.ErrNotFound where the server has no such stream and
// device.ErrUnsupported where nothing in it can be passed on.
func (s *Source) Start(ctx context.Context) ([]media.Track, error) {
	if err := s.Close(); err != nil {
		return nil, err
	}
	u, err := base.ParseURL(s.config.URL)
	if err != nil {
		return nil, err
	}
	if s.config.User != "" {
		u.User = url.UserPassword(s.config.User, s.config.Password.Reveal())
	}
	trust, err := pin.Client(s.config.Fingerprint)
	if err != nil {
		return nil, fmt.Errorf("fingerprint: %w", err)
	}
	c := &gortsplib.Client{Scheme: u.Scheme, Host: u.Host, ReadTimeout: answerLimit, WriteTimeout: answerLimit, UserAgent: "gantry",
		OnPacketsLost: func(uint64) {}, OnDecodeError: func(error) {}, // the decoders see gaps themselves
		TLSConfig: trust}
	if p, ok := map[string]gortsplib.Protocol{"tcp": gortsplib.ProtocolTCP, "udp": gortsplib.ProtocolUDP}[s.config.Transport]; ok {
		c.Protocol = &p
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u.Host, err)
	}
	run := &session{client: c, done: make(chan struct{}), waiting: true}
	stop := context.AfterFunc(ctx, c.Close) // requests do not look at a context
	tracks, err := run.play(u)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("play %s: %w", s.config.URL, explain(pin.Explain(err)))
	}
	go func() {
		defer close(run.done)
		err := c.Wait()
		run.queue.Close(fmt.Errorf("play %s: %w: %w", s.config.URL, err, device.ErrGone))
	}()
	s.run = run
	return tracks, nil
}

// explain says what a person can do about a refusal.
func explain(err error) error {
	var status liberrors.ErrClientBadStatusCode
	if !errors.As(err, &status) {
		return err
	}
	switch status.Code {
	case base.StatusUnauthorized, base.StatusForbidden:
		return fmt.Errorf("the server does not accept user and password: %w", device.ErrUnsupported)
	case base.StatusNotFound:
		return fmt.Errorf("the server has no stream of this name: %w", device.ErrNotFound)
	}
	return err
}

// play sets up what can be passed on: the first track of pictures and the first of sound.
func (r *session) play(u *base.URL) ([]media.Track, error) {
	desc, _, err := r.client.Describe(u)
	if err != nil {
		return nil, err
	}
	var tracks []media.Track
	var units []unpacker
	var medias []*description.Media
	have := map[bool]bool{} // by whether it is video
	for _, m := range desc.Medias {
		if m.IsBackChannel || len(m.Formats) == 0 {
			continue
		}
		track, unpack, err := open(m.Formats[0])
		if err != nil {
			return nil, err
		}
		if unpack == nil || have[track.Codec.Video()] {
			continue
		}
		have[track.Codec.Video()] = true
		tracks, units, medias = append(tracks, track), append(units, unpack), append(medias, m)
	}
	if len(tracks) == 0 {
		return nil, fmt.Errorf("it has no H.264, H.265, AAC or Opus: %w", device.ErrUnsupported)
	}
	r.queue = media.NewQueue(queueLimit, tracks)
	for i, m := range medias {
		if _, err := r.client.Setup(desc.BaseURL, m, 0, 0); err != nil {
			return nil, err
		}
		r.client.OnPacketRTP(m, m.Formats[0], r.receiver(uint8(i), tracks[i], m, units[i]))
	}
	_, err = r.client.Play(nil)
	return tracks, err
}

// Read implements device.PacketSource. What waits for longer than a second is dropped up to a key frame.
func (s *Source) Read(ctx context.Context) (*media.Packet, error) {
	if s.run == nil {
		return nil, errors.New("rtsp: not started")
	}
	return s.run.queue.Pull(ctx)
}

// Close disconnects and waits until nothing is left of the connection.
func (s *Source) Close() error {
	if s.run == nil {
		return nil
	}
	s.run.client.Close()
	<-s.run.done
	s.run = nil
	return nil
}
