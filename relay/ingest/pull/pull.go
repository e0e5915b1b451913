// Package pull fetches streams from sources that wait to be asked: RTSP servers, such as IP cameras (RFC 2326, by bluenviron's
// gortsplib, TCP and UDP), and SRT listeners that send MPEG-TS (by datarhei's gosrt).
//
// It does not retry: internal/supervise does.
package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/internal/proto/pin"
	"gantry/internal/proto/srt"
	"gantry/internal/secret"
	"gantry/relay"
	"gantry/relay/ingest"
)

// Config names one source. It is comparable.
type Config struct {
	Name string `yaml:"name"` // of the stream that it becomes
	// URL is rtsp://[USER:PASSWORD@]HOST[:554]/PATH, rtsps://…, or srt://HOST:PORT with the parameters streamid,
	// passphrase and latency (in ms).
	URL secret.String `yaml:"url"`
	// Layer is which layer of the stream this is, where several sources send one picture at several bitrates.
	Layer string `yaml:"simulcastId"`
	// Fingerprint is the SHA-256 of an rtsps server's certificate, for one that no authority vouches for; "" asks the authorities.
	Fingerprint string `yaml:"fingerprint"`
}

// Validate names the key that is wrong.
func (c Config) Validate() error {
	if !relay.ValidName(c.Name) {
		return fmt.Errorf("name: %w", relay.ErrName)
	}
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return errors.New("url: it cannot be read as a URL; percent-encode what is unusual in the password")
	}
	switch u.Scheme {
	case "rtsp", "rtsps":
	case "srt":
		if u.Port() == "" {
			return errors.New("url: srt:// needs a port")
		}
		if _, err := srtConfig(u); err != nil {
			return fmt.Errorf("url: %w", err)
		}
	default:
		return fmt.Errorf("url: want rtsp://, rtsps:// or srt://, got %q", u.Scheme)
	}
	if c.Fingerprint != "" && u.Scheme != "rtsps" {
		return errors.New("fingerprint: is for rtsps:// alone")
	}
	if err := pin.Validate(c.Fingerprint); err != nil {
		return fmt.Errorf("fingerprint: %w", err)
	}
	if !ingest.ValidLayer(c.Layer) {
		return ingest.ErrLayer
	}
	if u.Hostname() == "" {
		return errors.New("url: it names no host")
	}
	return nil
}

// Run fetches the source until ctx ends, which is nil, or it fails, which it says without the URL's secrets.
func Run(ctx context.Context, c Config, hub *relay.Hub, log *slog.Logger) error {
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return errors.New("the URL cannot be read")
	}
	if u.Scheme == "srt" {
		err = runSRT(ctx, c, u, hub, log)
	} else {
		err = runRTSP(ctx, c, u, hub, log)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the source ended the stream")
	}
	return fmt.Errorf("pull %s from %s: %w", c.Name, u.Host, err)
}

func srtConfig(u *url.URL) (gosrt.Config, error) {
	c := gosrt.DefaultConfig()
	q := u.Query()
	c.StreamId, c.Passphrase = q.Get("streamid"), q.Get("passphrase")
	if n := len(c.Passphrase); n != 0 && (n < 10 || n > 79) {
		return c, errors.New("passphrase: SRT wants 10 to 79 characters")
	}
	if len(c.StreamId) > 512 {
		return c, errors.New("streamid: at most 512 bytes")
	}
	latency := 200
	if l := q.Get("latency"); l != "" {
		var err error
		if latency, err = strconv.Atoi(l); err != nil || latency < 20 || latency > 10_000 {
			return c, errors.New("latency: want 20 to 10000, in ms")
		}
	}
	c.ReceiverLatency, c.PeerLatency = time.Duration(latency)*time.Millisecond, 0
	c.ConnectionTimeout, c.PeerIdleTimeout = 3*time.Second, 5*time.Second
	return c, nil
}

func runSRT(ctx context.Context, c Config, u *url.URL, hub *relay.Hub, log *slog.Logger) error {
	cfg, err := srtConfig(u)
	if err != nil {
		return err
	}
	conn, err := srt.Dial(ctx, u.Host, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	p := relay.Publisher{Protocol: "srt", Remote: u.Host, Layer: c.Layer}
	return ingest.ReadTS(conn, hub, c.Name, p, log)
}

// host returns u's host and port, with the scheme's port where it has none.
func host(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	port := "554"
	if u.Scheme == "rtsps" {
		port = "322"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
