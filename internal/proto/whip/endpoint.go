package whip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

// SDPType is the media type of an offer or answer in an HTTP body.
const SDPType = "application/sdp"

// MaxSDP is how many bytes of an offer or answer are read. Browsers send some 10 KiB.
const MaxSDP = 128 << 10

// An Offer is what a client POSTs to open a session.
type Offer struct {
	Stream  string     // the path behind Options.Prefix, as sent: whoever accepts validates it
	SDP     string     // at most MaxSDP bytes, not parsed yet
	Query   url.Values // of the request, without the token
	Remote  netip.AddrPort
	Token   string // already authorized; empty when the client sent none
	Session string // what logs call the session: the beginning of its id, which as a whole is a secret
}

// An Answer opens a session.
type Answer struct {
	SDP     string // complete: a server does not trickle (RFC 9725 §4.3.2)
	Session Session
	// Counter: SDP is the server's own offer, because it refuses the client's (406, WHEP). The Session is an Answerer, and is
	// closed when no answer comes within CounterOfferLife.
	Counter bool
}

// CounterOfferLife is how long a client may take to answer a counter-offer.
const CounterOfferLife = 30 * time.Second

// A Session is what an Offer opened, as its HTTP resource needs it. The Endpoint calls one of Trickle, Restart and
// Answerer.Answer at a time; Close may come during any.
type Session interface {
	// Trickle adds candidates to the current credentials. Ones that cannot be used are dropped in silence.
	Trickle(Fragment) error
	// Restart takes new remote credentials and returns new local ones with all local candidates. After an error the session
	// goes on as it was. ErrUnsupported answers 422.
	Restart(Fragment) (Fragment, error)
	// Close ends the session and waits until all it held is given back. It is idempotent.
	Close() error
	// Done is closed when the session has ended, by Close or by itself: consent expired, publisher replaced.
	Done() <-chan struct{}
}

// An Answerer is a Session that was opened by a counter-offer.
type Answerer interface {
	Session
	// Answer takes the client's answer to the server's offer.
	Answer(sdp string) error
}

// An Extender is a Session with protocol extensions (RFC 9725 §4.9), each a resource below the session's own.
type Extender interface {
	Session
	// Extensions is called once, when the session is opened.
	Extensions() []Extension
}

// An Extension is announced by a Link field in the 201. Handler sees authorized requests with the path that follows the
// extension's own ("" or "/…"); cross-origin fields are set already.
type Extension struct {
	Name    string // its path element below the session
	Rel     string // "urn:ietf:params:whep:ext:…"
	Params  map[string]string
	Handler http.Handler
}

// ErrUnsupported is returned by a Session that has no ICE restart or no trickle (RFC 9725 §4.3: 422).
var ErrUnsupported = errors.New("not supported by this session")

// An Error is a refusal in HTTP's terms. Other errors of an Accept or a Session are answered 500 without their text, and
// logged.
type Error struct {
	Status     int           // 4xx or 5xx; 307 with Location sends the client to another server
	Reason     string        // for the client's user: what is wrong and what to do
	RetryAfter time.Duration // 0: no Retry-After field
	Location   string        // only with 307
}

// Error returns the reason.
func (e *Error) Error() string {
	if e.Reason != "" {
		return e.Reason
	}
	return http.StatusText(e.Status)
}

// Errorf returns an *Error without Retry-After.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Reason: fmt.Sprintf(format, args...)}
}

// Options make an Endpoint. Only Prefix, Accept and Log must be set.
type Options struct {
	Prefix string // path before the stream's name, with both slashes: "/whip/"
	Log    *slog.Logger
	// Accept opens a session or refuses with an *Error. ctx ends when the client hangs up or the Endpoint closes.
	Accept func(ctx context.Context, o Offer) (Answer, error)
	// Authorize tells whether token ("" when none was sent) opens stream; any error is answered 401 with its text, unless it
	// is an *Error. Nil lets everybody in.
	Authorize func(token, stream string) error
	// ICEServers returns the STUN and TURN servers for a client, with RelICEServer. They are shown to authorized clients only.
	ICEServers func(token, stream string) []Link

	Limits Limits
}

// Limits bound what clients can make an Endpoint do. A zero field takes DefaultLimits' value, a negative one is no limit.
type Limits struct {
	Negotiations int     // offers worked on at the same time; more are answered 503
	Sessions     int     // open at the same time; more are answered 503
	Rate         float64 // POST, PATCH and DELETE a second from one address (IPv6: one /64); more are answered 429
	Burst        int     // of them at once
}

// DefaultLimits suit a relay that is open to the internet. Loopback addresses have no rate limit: behind a reverse proxy they
// are everybody.
func DefaultLimits() Limits { return Limits{Negotiations: 64, Sessions: 10000, Rate: 20, Burst: 100} }

// An Endpoint is the http.Handler of one protocol's endpoints, one a stream, and of the session resources below them:
//
//	POST    {Prefix}{stream}             offer → 201, answer, Location
//	PATCH   {Prefix}{stream}/{session}   candidates → 204; ICE restart → 200
//	DELETE  {Prefix}{stream}/{session}   → 200
//	OPTIONS, HEAD, GET                   on either
//
// It owns the sessions. Close it when the HTTP server is shut down.
type Endpoint struct {
	options Options
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	slots   chan struct{} // one element a negotiation; nil: no limit
	rates   *rates
	work    sync.WaitGroup // negotiations and watchers of sessions

	mu       sync.Mutex
	sessions map[string]*resource
	closed   bool
}

// NewEndpoint returns an Endpoint. It panics when Options lack what they must have.
func NewEndpoint(o Options) *Endpoint {
	if o.Accept == nil || o.Log == nil || len(o.Prefix) < 2 || o.Prefix[0] != '/' || o.Prefix[len(o.Prefix)-1] != '/' {
		panic("whip: an Endpoint needs Accept, Log and a Prefix like \"/whip/\"")
	}
	def := DefaultLimits()
	l := &o.Limits
	if l.Negotiations == 0 {
		l.Negotiations = def.Negotiations
	}
	if l.Sessions == 0 {
		l.Sessions = def.Sessions
	}
	if l.Rate == 0 {
		l.Rate = def.Rate
	}
	if l.Burst == 0 {
		l.Burst = def.Burst
	}
	e := &Endpoint{options: o, sessions: map[string]*resource{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if l.Negotiations > 0 {
		e.slots = make(chan struct{}, l.Negotiations)
	}
	if l.Rate > 0 && l.Burst > 0 {
		e.rates = newRates(l.Rate, l.Burst)
	}
	return e
}

// Sessions returns how many are open.
func (e *Endpoint) Sessions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sessions)
}

// Close ends all sessions and waits for them; requests that come later are answered 503.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	e.closed = true
	open := e.sessions
	e.sessions = map[string]*resource{}
	e.mu.Unlock()
	e.cancel()
	var wg sync.WaitGroup
	for _, r := range open {
		wg.Go(func() { _ = r.session.Close() })
	}
	wg.Wait()
	e.work.Wait()
	return nil
}
