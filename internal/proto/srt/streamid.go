// Package srt is the wire signalling that Gantry's SRT client and server share: what a stream id says, and how to write one.
//
// Dial is the one way to call a listener: it mends what gosrt leaves behind. The package knows no MPEG-TS.
package srt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxStreamID is how long a stream id may be, in bytes (SRT protocol, draft-sharabayko-srt-01 §3.2.1.3).
const MaxStreamID = 512

// A Dialect is one of the ways in which encoders write what they want into a stream id.
type Dialect uint8

const (
	// Standard: "#!::r=name,m=publish,u=user,s=token", the SRT Access Control guidelines.
	Standard Dialect = iota
	// Colon: "publish:name:user:token".
	Colon
	// Query: "name?t=base64url(token)&priority=1".
	Query
	// Bare: "name", to publish without a token.
	Bare
)

// ErrStreamID: the stream id is in none of the dialects.
var ErrStreamID = errors.New(`want "#!::r=NAME,m=publish,s=TOKEN", "publish:NAME:USER:TOKEN", "NAME?t=TOKEN" or "NAME"`)

// A StreamID is what a caller wants of a listener.
type StreamID struct {
	Dialect Dialect
	Play    bool // the caller wants to receive; else it publishes
	Stream  string
	User    string
	Token   string
	// Params holds what else was said, by the names of the query dialect: "priority", "sourceId", "simulcastId".
	Params url.Values
}

// ParseStreamID reads a stream id in any of the four dialects.
func ParseStreamID(s string) (StreamID, error) {
	bad := func(why string) (StreamID, error) {
		return StreamID{}, fmt.Errorf("stream id: %s: %w", why, ErrStreamID)
	}
	if len(s) > MaxStreamID || !utf8.ValidString(s) {
		return bad("longer than 512 bytes, or not UTF-8")
	}
	s = strings.TrimSpace(s)
	// Quoted for a URL by a person, and not unquoted by the encoder (ffmpeg is one).
	if strings.HasPrefix(s, "%23!") || !strings.ContainsAny(s, "?:") && strings.Contains(strings.ToLower(s), "%3f") {
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
	}
	var id StreamID
	switch mode, rest, colon := strings.Cut(s, ":"); {
	case strings.HasPrefix(s, "#!"):
		keys, ok := strings.CutPrefix(s, "#!::")
		if !ok {
			return bad("only the flat form #!:: is understood")
		}
		var err error
		if id, err = parseStandard(keys); err != nil {
			return bad(err.Error())
		}
	case colon && (mode == "publish" || mode == "read" || mode == "play" || mode == "request"):
		id = parseColon(mode, rest)
	default:
		var err error
		if id, err = parseQuery(s); err != nil {
			return bad(err.Error())
		}
	}
	if id.Stream = strings.TrimFunc(id.Stream, func(r rune) bool { return r == '/' || unicode.IsSpace(r) }); id.Stream == "" {
		return bad("it names no stream")
	}
	if strings.ContainsAny(id.Stream, "#!?&=,:") {
		return bad(fmt.Sprintf("%q is no stream name", id.Stream))
	}
	return id, nil
}

// parseStandard reads comma-separated keys: r resource, m mode, u user, s session (there the token), t type, h host.
func parseStandard(keys string) (StreamID, error) {
	id := StreamID{Dialect: Standard, Params: url.Values{}}
	for pair := range strings.SplitSeq(keys, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return id, fmt.Errorf("%q is not key=value", pair)
		}
		switch key {
		case "r":
			name, query, _ := strings.Cut(value, "?") // some encoders put the other dialect into r
			id.Stream = name
			if query != "" {
				if err := id.query(query); err != nil {
					return id, err
				}
			}
		case "m":
			switch value {
			case "publish", "bidirectional":
			case "request", "play":
				id.Play = true
			default:
				return id, fmt.Errorf("m=%s is neither publish nor request", value)
			}
		case "u":
			id.User = value
		case "s", "token":
			id.Token = value
		case "t":
			if value != "stream" && value != "" {
				return id, fmt.Errorf("t=%s: only streams are served", value)
			}
		case "h":
		default:
			id.Params.Set(key, value)
		}
	}
	return id, nil
}

// parseColon reads NAME[:USER:TOKEN]; a token alone may stand in the user's place. What follows "?" is as in parseQuery.
func parseColon(mode, rest string) StreamID {
	id := StreamID{Dialect: Colon, Play: mode != "publish", Params: url.Values{}}
	name, cred, _ := strings.Cut(rest, ":")
	name, query, _ := strings.Cut(name, "?")
	if query != "" {
		_ = id.query(query) // a name with a broken query is still a name
	}
	id.Stream = name
	user, token, both := strings.Cut(cred, ":")
	switch {
	case both:
		token, _, _ = strings.Cut(token, ":")
		id.User, id.Token = user, token
	case user != "":
		id.Token = user
	}
	return id
}

func parseQuery(s string) (StreamID, error) {
	name, query, asked := strings.Cut(s, "?")
	id := StreamID{Dialect: Bare, Stream: name, Params: url.Values{}}
	if asked {
		id.Dialect = Query
		if err := id.query(query); err != nil {
			return id, err
		}
	}
	return id, nil
}

func (id *StreamID) query(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	for _, key := range []string{"t", "token", "auth"} {
		if v := values.Get(key); v != "" {
			id.Token = v
		}
		values.Del(key)
	}
	if m := values.Get("m"); m == "request" || m == "play" || m == "read" {
		id.Play = true
	}
	values.Del("m")
	for key, v := range values {
		id.Params[key] = v
	}
	return nil
}

// Tokens returns the token as it was written and, where it reads as base64url, what that says: the query dialect's encoders
// encode it so, and people who type it do not.
func (id StreamID) Tokens() []string {
	if id.Token == "" {
		return nil
	}
	tokens := []string{id.Token}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(id.Token, "="))
	if err == nil && len(b) > 0 && utf8.Valid(b) {
		tokens = append(tokens, string(b))
	}
	return tokens
}

// String writes the stream id in its Dialect, ready to be handed to an SRT socket; in a URL it must be quoted once more
// (Quote). Values that the dialect cannot carry make an error at the peer, so Validate first.
func (id StreamID) String() string {
	mode := "publish"
	if id.Play {
		mode = "request"
	}
	switch id.Dialect {
	case Colon:
		if id.Play {
			mode = "read"
		}
		s := mode + ":" + id.Stream
		if id.Token != "" {
			s += ":" + id.User + ":" + id.Token
		}
		return s
	case Query:
		q := url.Values{}
		for k, v := range id.Params {
			q[k] = v
		}
		if id.Token != "" {
			q.Set("t", base64.RawURLEncoding.EncodeToString([]byte(id.Token)))
		}
		if id.Play {
			q.Set("m", "request")
		}
		if len(q) == 0 {
			return id.Stream
		}
		return id.Stream + "?" + q.Encode()
	case Bare:
		return id.Stream
	}
	s := "#!::r=" + id.Stream + ",m=" + mode
	if id.User != "" {
		s += ",u=" + id.User
	}
	if id.Token != "" {
		s += ",s=" + id.Token
	}
	return s
}

// Validate tells whether the dialect can carry what the StreamID says.
func (id StreamID) Validate() error {
	reserved := map[Dialect]string{Standard: ",=?", Colon: ":?", Query: "?&", Bare: "?&=,"}[id.Dialect]
	for _, v := range []struct{ what, value string }{{"stream", id.Stream}, {"user", id.User}, {"token", id.Token}} {
		if id.Dialect == Query && v.what == "token" {
			continue // it is base64url there
		}
		if strings.ContainsAny(v.value, reserved) {
			return fmt.Errorf("stream id: this dialect cannot carry a %s with any of %q", v.what, reserved)
		}
	}
	if id.Dialect == Bare && (id.Token != "" || id.Play) {
		return errors.New("stream id: the bare dialect carries no token and only publishes")
	}
	if s := id.String(); len(s) > MaxStreamID {
		return fmt.Errorf("stream id: %d bytes, at most %d fit", len(s), MaxStreamID)
	}
	return nil
}

// Quote returns the stream id as it stands after "streamid=" in an srt:// URL.
func (id StreamID) Quote() string {
	return strings.ReplaceAll(url.QueryEscape(id.String()), "+", "%20")
}
