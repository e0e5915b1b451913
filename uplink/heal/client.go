package heal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"gantry/internal/recording"
	"gantry/internal/secret"
	"gantry/uplink"
)

const (
	requestTimeout = 15 * time.Second // for an answer; what is sent slowly on purpose takes its time before
	maxList        = 4 << 20          // bytes of the list of gaps
	maxProblem     = 4 << 10
	piece          = 4 << 10                // bytes that go out at once
	pauseEvery     = 200 * time.Millisecond // between looks at a path that carries nothing
	defaultRetry   = 5 * time.Second
)

// errClip: the relay has no use for a clip.
var errClip = errors.New("the relay does not take the clip")

// A client speaks to the relay.
type client struct {
	http  *http.Client
	at    string
	token secret.String
	sent  func(n int)
}

func newClient(c Config, sent func(n int)) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = requestTimeout
	transport.WriteBufferSize = piece
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{http: &http.Client{Transport: transport, CheckRedirect: refuse}, at: c.URL, token: c.Token, sent: sent}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// gaps asks what is missing.
func (c *client) gaps(ctx context.Context) ([]recording.Gap, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, c.at+"?gaps", nil, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for gaps: %w", err)
	}
	defer resp.Body.Close()
	var list struct{ Gaps []recording.Gap }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxList)).Decode(&list); err != nil {
		return nil, fmt.Errorf("ask for gaps: read the answer: %w", err)
	}
	return list.Gaps, nil
}

// put sends a clip at a rate in bit/s, which is asked again for every piece; while it is 0 nothing goes out.
func (c *client) put(ctx context.Context, clip []byte, rate func() int) error {
	body := &paced{ctx: ctx, rest: bytes.NewReader(clip), rate: rate, sent: c.sent}
	resp, err := c.do(ctx, http.MethodPut, c.at, body, int64(len(clip)))
	if err != nil {
		return fmt.Errorf("send a clip: %w", err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxProblem)
	return resp.Body.Close()
}

func (c *client) do(ctx context.Context, method, to string, body io.Reader, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, errors.New("the address is no URL")
	}
	if req.ContentLength = length; body != nil {
		req.Header.Set("Content-Type", "video/mp4")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// refusal says why the relay refused, in its own words if it has some (RFC 9457).
func refusal(resp *http.Response) error {
	var p struct{ Detail string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&p)
	err := fmt.Errorf("the relay says %s", resp.Status)
	if p.Detail != "" {
		err = fmt.Errorf("%w: %q", err, p.Detail)
	}
	switch code := resp.StatusCode; {
	case code == http.StatusConflict, code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: %w", errClip, err)
	case code == http.StatusServiceUnavailable, code == http.StatusTooManyRequests:
		return &uplink.RetryAfter{After: defaultRetry, Err: err}
	case code/100 == 3, code/100 == 4:
		return fmt.Errorf("%w: %w", uplink.ErrRefused, err)
	}
	return err
}

// paced is a request's body that comes no faster than a rate.
type paced struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no other place for it
	rest *bytes.Reader
	rate func() int
	sent func(int)
	due  time.Time
}

// Read waits until the next piece may go out.
func (p *paced) Read(b []byte) (int, error) {
	for {
		rate, wait := p.rate(), pauseEvery
		if rate > 0 {
			if wait = time.Until(p.due); wait <= 0 {
				n, err := p.rest.Read(b[:min(len(b), piece)])
				from := p.due
				if now := time.Now(); now.Sub(from) > pauseEvery {
					from = now
				}
				p.due = from.Add(time.Duration(n) * 8 * time.Second / time.Duration(rate))
				p.sent(n)
				return n, err
			}
		}
		timer := time.NewTimer(min(wait, pauseEvery))
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			timer.Stop()
			return 0, context.Cause(p.ctx)
		}
	}
}
