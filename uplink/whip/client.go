package whip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gantry/internal/proto/whip"
	"gantry/internal/secret"
	"gantry/uplink"
)

const (
	requestTimeout = 10 * time.Second
	deleteTimeout  = 3 * time.Second
	maxAnswer      = 128 << 10 // bytes of an SDP answer
	maxProblem     = 4 << 10   // bytes of an error's body that are read
	maxRedirects   = 5
	maxRetryAfter  = time.Hour

	defaultRetryAfter = 5 * time.Second // of a 409, 429 or 503 that names no time
)

const sdpType = "application/sdp"

// A client speaks the HTTP half of one session. It follows redirects of the POST itself: net/http would follow 301 as well,
// and would not tell where it ended. It is used by one goroutine at a time.
type client struct {
	http     *http.Client
	endpoint *url.URL
	token    secret.String

	session   *url.URL // after post
	authorize bool     // whether the session's requests carry the token
	etag      string   // of the current ICE generation; empty if the server gives none
}

func newClient(endpoint string, token secret.String) (*client, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, errors.New("endpoint is no URL")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.ResponseHeaderTimeout = requestTimeout
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{http: &http.Client{Transport: transport, CheckRedirect: refuse}, endpoint: u, token: token}, nil
}

// close frees idle connections. The next request opens a new one, from an address that this machine still has.
func (c *client) close() { c.http.CloseIdleConnections() }

// An answer is what the server said to the offer.
type answer struct {
	sdp   string
	links []whip.Link
}

// post sends the offer (RFC 9725 §4.2) and follows 307 and 308.
func (c *client) post(ctx context.Context, offer string) (*answer, error) {
	at, authorize := c.endpoint, true
	for range maxRedirects + 1 {
		resp, err := c.do(ctx, http.MethodPost, at, authorize, http.Header{"Content-Type": {sdpType}, "Accept": {sdpType}}, []byte(offer))
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			drop(resp)
			next, err := location(at, resp)
			if err != nil {
				return nil, fmt.Errorf("post offer: redirect: %w", err)
			}
			authorize = authorize && sameOrigin(at, next)
			at = next
			continue
		case http.StatusCreated:
			return c.created(at, authorize, resp)
		}
		return nil, fmt.Errorf("post offer: %w", statusError(resp))
	}
	return nil, fmt.Errorf("post offer: more than %d redirects", maxRedirects)
}

// created reads the 201. The session exists already: what is wrong with the rest of the answer must not keep it from being
// deleted.
func (c *client) created(at *url.URL, authorized bool, resp *http.Response) (*answer, error) {
	defer resp.Body.Close()
	session, err := location(at, resp)
	if err != nil {
		return nil, fmt.Errorf("post offer: answer 201: %w", err)
	}
	c.session = session
	c.authorize = authorized && (at.Scheme != "https" || session.Scheme == "https")
	c.etag = resp.Header.Get("ETag")
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != sdpType {
		return nil, fmt.Errorf("post offer: answer has content type %q, not %s", resp.Header.Get("Content-Type"), sdpType)
	}
	sdp, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("post offer: read answer: %w", plain(err))
	}
	if len(sdp) > maxAnswer {
		return nil, fmt.Errorf("post offer: answer is longer than %d bytes", maxAnswer)
	}
	return &answer{sdp: string(sdp), links: resolved(at, whip.ParseLinks(resp.Header.Values("Link")))}, nil
}

// discover asks the endpoint for its links (RFC 9725 §4.6).
func (c *client) discover(ctx context.Context) ([]whip.Link, error) {
	resp, err := c.do(ctx, http.MethodOptions, c.endpoint, true, nil, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("ask for options: %w", statusError(resp))
	}
	drop(resp)
	return resolved(c.endpoint, whip.ParseLinks(resp.Header.Values("Link"))), nil
}

// errNoPatch: the server does not take this PATCH, though the session lives.
var errNoPatch = errors.New("server takes no such PATCH")

// trickle sends candidates of the current ICE generation (RFC 9725 §4.3.1).
func (c *client) trickle(ctx context.Context, f whip.Fragment) error {
	resp, err := c.patch(ctx, f, c.etag)
	if err != nil {
		return fmt.Errorf("send candidates: %w", err)
	}
	drop(resp)
	return nil
}

// restart sends new ICE credentials and returns the server's (RFC 9725 §4.3.2).
func (c *client) restart(ctx context.Context, f whip.Fragment) (whip.Fragment, error) {
	resp, err := c.patch(ctx, f, `"*"`)
	if err != nil {
		return whip.Fragment{}, fmt.Errorf("restart ICE: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return whip.Fragment{}, fmt.Errorf("restart ICE: %s instead of 200", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, whip.MaxFragment+1))
	if err != nil {
		return whip.Fragment{}, fmt.Errorf("restart ICE: read answer: %w", plain(err))
	}
	theirs, err := whip.ParseFragment(body)
	if err != nil {
		return whip.Fragment{}, fmt.Errorf("restart ICE: %w", err)
	}
	if theirs.Ufrag == "" {
		return whip.Fragment{}, errors.New("restart ICE: answer has no credentials")
	}
	c.etag = resp.Header.Get("ETag")
	return theirs, nil
}

// patch returns errNoPatch, wrapped, for what a server answers that lacks the feature.
func (c *client) patch(ctx context.Context, f whip.Fragment, match string) (*http.Response, error) {
	header := http.Header{"Content-Type": {whip.FragmentType}}
	if match != "" {
		header.Set("If-Match", match)
	}
	resp, err := c.do(ctx, http.MethodPatch, c.session, c.authorize, header, f.Marshal())
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode / 100 {
	case 2:
		return resp, nil
	case 4:
		switch resp.StatusCode {
		case http.StatusNotFound, http.StatusGone:
			// The session has gone, as with a server that crashed: a new one is welcome at once, so it is no refusal.
			return nil, fmt.Errorf("the session is gone: %v", statusError(resp))
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
			return nil, statusError(resp)
		}
		return nil, fmt.Errorf("%w: %v", errNoPatch, statusError(resp))
	}
	if resp.StatusCode == http.StatusNotImplemented {
		return nil, fmt.Errorf("%w: %v", errNoPatch, statusError(resp))
	}
	return nil, statusError(resp)
}

// delete ends the session, if there is one. It has its own deadline: what ended the session has often ended ctx too.
func (c *client) delete(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodDelete, c.session, c.authorize, nil, nil)
	c.session = nil
	if err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusGone {
		return fmt.Errorf("delete session: %w", statusError(resp))
	}
	drop(resp)
	return nil
}

func (c *client) do(ctx context.Context, method string, to *url.URL, authorize bool, header http.Header, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	req, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%s: %w", strings.ToLower(method), plain(err))
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if authorize && c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%s %s: %w", strings.ToLower(method), shown(to), plain(err))
	}
	resp.Body = &timedBody{resp.Body, cancel}
	return resp, nil
}

// A timedBody keeps the request's deadline while its body is read.
type timedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *timedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// drop closes a body that nobody needs, read so far that the connection can be used again.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxProblem)
	_ = resp.Body.Close()
}

// plain takes the URL out of an error of net/http: its query may hold a token.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// shown is a URL as logs and errors show it: without a query.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// location returns the Location of a response, resolved against what was asked (RFC 3986 §5).
func location(at *url.URL, resp *http.Response) (*url.URL, error) {
	value := resp.Header.Get("Location")
	if value == "" {
		return nil, errors.New("no Location header")
	}
	ref, err := url.Parse(value)
	if err != nil {
		return nil, errors.New("Location is no URL")
	}
	to := at.ResolveReference(ref)
	if to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return nil, fmt.Errorf("Location %q leads nowhere", shown(to))
	}
	to.Fragment = ""
	return to, nil
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

func resolved(at *url.URL, links []whip.Link) []whip.Link {
	for i, l := range links {
		if ref, err := url.Parse(l.URL); err == nil && !l.Is(whip.RelICEServer) { // stun: URIs are no references
			links[i].URL = at.ResolveReference(ref).String()
		}
	}
	return links
}

// statusError says why the server refused, in its own words if it has some, and closes the body. Numbers are read by class
// (RFC 9725 §4.2): only what decides when to try again is told apart.
func statusError(resp *http.Response) error {
	defer resp.Body.Close()
	err := fmt.Errorf("server says %s%s", resp.Status, reason(resp))
	switch code := resp.StatusCode; {
	case code == http.StatusServiceUnavailable, code == http.StatusTooManyRequests, code == http.StatusConflict:
		return &uplink.RetryAfter{After: retryAfter(resp.Header.Get("Retry-After"), time.Now()), Err: err}
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return err
	case code/100 == 4:
		return fmt.Errorf("%w: %w", uplink.ErrRefused, err)
	case code/100 == 3:
		return fmt.Errorf("%w: %w, where RFC 9725 asks for 307", uplink.ErrRefused, err)
	case code/100 == 2:
		return fmt.Errorf("%w instead of 201", err)
	}
	return err
}

// reason returns the text of an error's body, ready to follow the status: RFC 9457's detail and title, or plain text.
func reason(resp *http.Response) string {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	text := ""
	switch t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t {
	case "application/problem+json", "application/json":
		var p struct{ Title, Detail, Error string }
		if json.Unmarshal(body, &p) == nil {
			text = p.Detail
			if text == "" {
				text = p.Title + p.Error
			}
		}
	case "text/plain":
		text, _, _ = strings.Cut(string(body), "\n")
	}
	text = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text), "")
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	const most = 300
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return ": " + text
}

// retryAfter reads a Retry-After field: seconds or a date (RFC 9110 §10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	after := defaultRetryAfter
	if s, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
		after = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), maxRetryAfter)
}
