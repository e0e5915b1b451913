package rtsp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"gantry/internal/secret"
)

// Config says where the server listens and who may watch. It is comparable.
type Config struct {
	Addr        string        `yaml:"addr"`        // host:port
	Path        string        `yaml:"path"`        // of the stream: rtsp://addr/path
	User        string        `yaml:"user"`        // who may watch; needed where other machines reach Addr
	Password    secret.String `yaml:"password"`    //
	RTPPort     int           `yaml:"rtp_port"`    // even; it and the next serve players that want UDP; 0: TCP alone
	Certificate string        `yaml:"certificate"` // PEM file; with it the server speaks RTSPS
	Key         string        `yaml:"key"`         // PEM file
}

// Default returns a server for this machine alone.
func Default() Config { return Config{Addr: "127.0.0.1:8554", Path: "live"} }

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var errs []error
	host, port, err := net.SplitHostPort(c.Addr)
	if _, bad := net.LookupPort("tcp", port); err != nil || bad != nil || port == "" {
		errs = append(errs, fmt.Errorf("addr: want host:port, got %q", c.Addr))
	} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && (c.User == "" || c.Password == "") {
		errs = append(errs, fmt.Errorf("addr: %q can be reached from other machines: set user and password, or use 127.0.0.1", c.Addr))
	}
	if c.Path == "" || len(c.Path) > 64 || strings.ContainsFunc(c.Path, func(r rune) bool {
		return !(r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		errs = append(errs, fmt.Errorf("path: %q is not 1 to 64 letters, digits, '-', '_' and '.'", c.Path))
	}
	if (c.User == "") != (c.Password == "") {
		errs = append(errs, errors.New("user: there is one of user and password without the other"))
	}
	if c.RTPPort != 0 && (c.RTPPort < 1024 || c.RTPPort > 65534 || c.RTPPort%2 != 0) {
		errs = append(errs, fmt.Errorf("rtp_port: %d is not an even number from 1024 to 65534, or 0 for TCP alone", c.RTPPort))
	}
	if (c.Certificate == "") != (c.Key == "") {
		errs = append(errs, errors.New("certificate: there is one of certificate and key without the other"))
	}
	for _, f := range []string{c.Certificate, c.Key} {
		if f != "" && !filepath.IsAbs(f) {
			errs = append(errs, fmt.Errorf("certificate: %q is not an absolute path", f))
		}
	}
	return errors.Join(errs...)
}

// tls returns what RTSPS needs, nil for RTSP.
func (c Config) tls() (*tls.Config, error) {
	if c.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate for RTSPS: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
