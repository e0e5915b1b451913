package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"gantry/internal/secret"
	"gantry/media"
	"gantry/relay/egress/restream"
	"gantry/uplink"
	"gantry/uplink/rtmp"
	"gantry/uplink/srt"
	"gantry/uplink/whip"
)

// openUplink returns what sends to destinations by the scheme of their URL.
func openUplink(log *slog.Logger) restream.Open {
	return func(d restream.Destination) (uplink.Sender, media.Codec, error) {
		u, err := url.Parse(d.URL.Reveal())
		if err != nil {
			return nil, 0, errors.New("url: it cannot be read as a URL")
		}
		log := log.With("stream", d.Stream, "uplink", d.Name)
		if d.Token != "" && u.Scheme != "http" && u.Scheme != "https" {
			return nil, 0, errors.New("token: is WHIP's; SRT and RTMP have theirs in the URL")
		}
		switch u.Scheme {
		case "rtmp", "rtmps":
			c := rtmp.Config{URL: d.URL.Reveal()}
			return rtmp.New(c, log), media.AAC, c.Validate()
		case "srt":
			q := u.Query()
			c := srt.Default()
			c.Addr, c.StreamID, c.Passphrase = u.Host, secret.String(q.Get("streamid")), secret.String(q.Get("passphrase"))
			if l := q.Get("latency"); l != "" {
				ms, err := strconv.Atoi(l)
				if err != nil {
					return nil, 0, errors.New("url: latency: want a number of ms")
				}
				c.Latency = time.Duration(ms) * time.Millisecond
			}
			return srt.New(c, log), media.AAC, c.Validate()
		case "http", "https":
			c := whip.Default()
			c.URL, c.Token = d.URL.Reveal(), d.Token
			s, err := whip.New(c, log)
			return s, media.Opus, err
		}
		return nil, 0, fmt.Errorf("url: want srt://, rtmp://, rtmps://, or WHIP's http:// or https://, got %q", u.Scheme)
	}
}
