// Package heal closes the gaps of a relay's recording: it asks the relay what is missing between its files, takes that from the
// recordings on the box's own disk, and sends it, a second of media at a time and no faster than a share of what the live
// path carries. Nothing is remembered but what the two folders hold, so that it goes on where it was after any restart.
//
// It does not record, and knows of the live path no more than its name.
package heal

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"gantry/internal/recording"
	"gantry/internal/secret"
	"gantry/media"
)

// Config says what to heal with what. It is comparable.
type Config struct {
	URL    string        `yaml:"url"`    // of the stream's recordings at the relay, http or https
	Token  secret.String `yaml:"token"`  // bearer token, a publish token of the relay's
	Dir    string        `yaml:"dir"`    // the box's recordings
	Uplink string        `yaml:"uplink"` // the destination that sends the stream to this relay
	Share  int           `yaml:"share"`  // of what its path carries, in percent: the most that is used
}

// Default returns a quarter of the path.
func Default() Config { return Config{Share: 25} }

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Carries are the codecs of programmes that can be healed.
func (c Config) Carries() []media.Codec {
	return []media.Codec{media.H264, media.H265, media.Opus, media.AAC}
}

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var errs []error
	if err := checkURL(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	if strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		errs = append(errs, errors.New("token: has spaces or characters that no HTTP header takes"))
	}
	if err := (recording.Config{Dir: c.Dir, Every: recording.Default().Every, Size: 1e6, Budget: 2e6}).Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Uplink == "" {
		errs = append(errs, errors.New("uplink: is missing: it is the name of the destination that sends the stream"))
	}
	if c.Share < 1 || c.Share > 90 {
		errs = append(errs, fmt.Errorf("share: want 1 to 90 percent, got %d", c.Share))
	}
	return errors.Join(errs...)
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is no URL") // the error of Parse would show a token in it
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("want http or https, as https://relay.example/api/v1/recordings/studio")
	case u.User != nil:
		return errors.New("has a user name or password in it: use token")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a ? or # in it: use token")
	case !strings.Contains(u.Path, "/api/v1/recordings/"):
		return errors.New("is not that of a stream's recordings, as https://relay.example/api/v1/recordings/studio")
	}
	return nil
}

// SameDir tells whether these are the recordings in dir.
func (c Config) SameDir(dir string) bool { return filepath.Clean(c.Dir) == filepath.Clean(dir) }
