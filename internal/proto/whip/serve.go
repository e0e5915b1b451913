package whip

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// bodyTime is how long a client may take to send a body.
const bodyTime = 10 * time.Second

// What may stand behind the prefix, in bytes: a stream's name, and after it a session with its extension.
const (
	maxStream = 256
	maxPath   = 2 * maxStream
)

// ServeHTTP answers one request. It finds the session first, then the method; a path without a session is an endpoint.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After, WWW-Authenticate")
	h.Set("Cache-Control", "no-store")

	path, ok := strings.CutPrefix(r.URL.Path, e.options.Prefix)
	if !ok || path == "" || len(path) > maxPath {
		e.fail(w, r, Errorf(http.StatusNotFound, "name a stream behind %s", e.options.Prefix))
		return
	}
	remote, _ := netip.ParseAddrPort(r.RemoteAddr)
	switch r.Method {
	case http.MethodPost, http.MethodPatch, http.MethodDelete:
		if !e.rates.allow(remote.Addr(), time.Now()) {
			e.fail(w, r, &Error{Status: http.StatusTooManyRequests, RetryAfter: time.Second, Reason: "too many requests from your address: slow down"})
			return
		}
	}
	res, rest := e.find(path)
	if r.Method == http.MethodOptions {
		e.serveOptions(w, r, path, res)
		return
	}
	if res != nil && rest != "" {
		e.serveExtension(w, r, res, rest)
		return
	}
	switch r.Method {
	case http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case http.MethodHead:
		h.Set("Content-Type", SDPType) // how a WHEP player discovers that this is an endpoint
		w.WriteHeader(http.StatusOK)
	case http.MethodPost:
		if res != nil {
			h.Set("Allow", allowSession)
			e.fail(w, r, Errorf(http.StatusMethodNotAllowed, "this is a session: POST offers to %s{stream}", e.options.Prefix))
			return
		}
		e.servePost(w, r, path, remote)
	case http.MethodPatch:
		e.servePatch(w, r, res)
	case http.MethodDelete:
		e.serveDelete(w, r, res)
	default:
		h.Set("Allow", "OPTIONS, HEAD, GET, POST, PATCH, DELETE")
		e.fail(w, r, Errorf(http.StatusMethodNotAllowed, "the method %s means nothing here", r.Method))
	}
}

const allowSession = "OPTIONS, HEAD, GET, PATCH, DELETE"

// serveOptions answers CORS preflights and discovery. ICE servers come with credentials, so only who may use them sees them
// (RFC 9725 §4.6).
func (e *Endpoint) serveOptions(w http.ResponseWriter, r *http.Request, stream string, res *resource) {
	h := w.Header()
	h.Set("Accept-Post", SDPType)
	h.Set("Accept-Patch", FragmentType)
	h.Set("Access-Control-Allow-Methods", "OPTIONS, HEAD, GET, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
	h.Set("Access-Control-Max-Age", "86400")
	if res == nil && r.Header.Get("Access-Control-Request-Method") == "" {
		token, _ := requestToken(r)
		if e.options.Authorize == nil || e.options.Authorize(token, stream) == nil {
			e.addICEServers(h, token, stream)
		}
	}
	w.WriteHeader(http.StatusOK)
}

func (e *Endpoint) addICEServers(h http.Header, token, stream string) {
	if e.options.ICEServers == nil {
		return
	}
	for _, l := range e.options.ICEServers(token, stream) {
		h.Add("Link", l.String())
	}
}

// servePost opens a session (RFC 9725 §4.2).
func (e *Endpoint) servePost(w http.ResponseWriter, r *http.Request, stream string, remote netip.AddrPort) {
	if len(stream) > maxStream {
		e.fail(w, r, Errorf(http.StatusNotFound, "the name of a stream has at most %d bytes", maxStream))
		return
	}
	token, inURL := requestToken(r)
	if e.options.Authorize != nil {
		if err := e.options.Authorize(token, stream); err != nil {
			e.unauthorized(w, r, token, err)
			return
		}
	}
	body, err := readBody(w, r, SDPType, MaxSDP)
	if err == nil && !strings.HasPrefix(string(body), "v=0") {
		err = Errorf(http.StatusBadRequest, "the body is not an SDP offer: it does not begin with v=0")
	}
	if err != nil {
		w.Header().Set("Accept-Post", SDPType)
		e.fail(w, r, err)
		return
	}
	if err := e.reserve(); err != nil {
		e.fail(w, r, err)
		return
	}
	defer e.release()

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	query := r.URL.Query()
	query.Del("token")
	query.Del("auth")
	id := rand.Text() // 130 bits
	answer, err := e.options.Accept(ctx, Offer{Stream: stream, SDP: string(body), Query: query, Remote: remote, Token: token, Session: id[:logged]})
	if err != nil {
		e.options.Log.Info("offer refused", "stream", stream, "remote", remote, "reason", err)
		e.fail(w, r, err)
		return
	}
	res := &resource{id: id, stream: stream, token: token, tokenInURL: inURL, session: answer.Session, etag: newETag(), remote: lastUfrag(string(body)),
		unanswered: answer.Counter}
	if r.Context().Err() != nil || !e.register(res) { // nobody is there to use it
		_ = answer.Session.Close()
		e.fail(w, r, &Error{Status: http.StatusServiceUnavailable, Reason: "shutting down"})
		return
	}

	h := w.Header()
	location := url.URL{Path: e.options.Prefix + stream + "/" + id}
	h.Set("Location", location.EscapedPath())
	h.Set("ETag", res.etag)
	h.Set("Accept-Patch", FragmentType)
	e.addICEServers(h, token, stream)
	res.extensions = addExtensions(h, answer.Session, location)
	h.Set("Content-Type", SDPType)
	if answer.Counter {
		h.Set("Accept-Patch", FragmentType+", "+SDPType)
		w.WriteHeader(http.StatusNotAcceptable)
	} else {
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = io.WriteString(w, answer.SDP)
}

// reserve takes a place among the offers worked on; release gives it back.
func (e *Endpoint) reserve() error {
	busy := &Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Reason: "the server is busy: try again shortly"}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return &Error{Status: http.StatusServiceUnavailable, RetryAfter: 5 * time.Second, Reason: "the server is shutting down"}
	}
	if n := e.options.Limits.Sessions; n > 0 && len(e.sessions) >= n {
		return &Error{Status: http.StatusServiceUnavailable, RetryAfter: 10 * time.Second, Reason: "the server has all the sessions that it may have"}
	}
	if e.slots != nil {
		select {
		case e.slots <- struct{}{}:
		default:
			return busy
		}
	}
	e.work.Add(1)
	return nil
}

func (e *Endpoint) release() {
	if e.slots != nil {
		<-e.slots
	}
	e.work.Done()
}

// servePatch takes candidates, an ICE restart (RFC 9725 §4.3), or the answer to a counter-offer.
func (e *Endpoint) servePatch(w http.ResponseWriter, r *http.Request, res *resource) {
	if !e.mayUse(w, r, res) {
		return
	}
	w.Header().Set("Accept-Patch", FragmentType)
	if mediaType(r) == SDPType {
		e.serveAnswer(w, r, res)
		return
	}
	body, err := readBody(w, r, FragmentType, MaxFragment)
	if err != nil {
		e.fail(w, r, err)
		return
	}
	f, err := ParseFragment(body)
	if err != nil {
		e.fail(w, r, Errorf(http.StatusBadRequest, "%v", err))
		return
	}
	reply, etag, err := res.patch(f, r.Header.Values("If-Match"), e.options.Log)
	switch {
	case err != nil:
		e.fail(w, r, err)
	case etag == "":
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Type", FragmentType)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(reply.Marshal())
	}
}

func (e *Endpoint) serveAnswer(w http.ResponseWriter, r *http.Request, res *resource) {
	body, err := readBody(w, r, SDPType, MaxSDP)
	if err == nil {
		err = res.answer(string(body))
	}
	if err != nil {
		e.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveDelete ends a session. The ETag does not matter (RFC 9725 §4.3.1).
func (e *Endpoint) serveDelete(w http.ResponseWriter, r *http.Request, res *resource) {
	if !e.mayUse(w, r, res) {
		return
	}
	e.forget(res)
	if err := res.session.Close(); err != nil {
		e.options.Log.Warn("session closed with an error", "stream", res.stream, "session", res.id[:logged], "err", err)
	}
	w.WriteHeader(http.StatusOK)
}

func (e *Endpoint) serveExtension(w http.ResponseWriter, r *http.Request, res *resource, rest string) {
	name, tail := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		name, tail = rest[:i], rest[i:]
	}
	if !e.mayUse(w, r, res) {
		return
	}
	for _, x := range res.extensions {
		if x.Name == name {
			u := *r.URL
			u.Path, u.RawPath = tail, ""
			r = r.WithContext(r.Context())
			r.URL = &u
			x.Handler.ServeHTTP(w, r)
			return
		}
	}
	e.fail(w, r, Errorf(http.StatusNotFound, "the session has no extension of that name"))
}

// mayUse answers for a session that is not there or not the client's. The session's URL is a secret in itself; who opened it
// with a header must show that again, who opened it with a token in the URL cannot.
func (e *Endpoint) mayUse(w http.ResponseWriter, r *http.Request, res *resource) bool {
	if res == nil {
		e.fail(w, r, Errorf(http.StatusNotFound, "no such session: it ended, or never was; POST a new offer"))
		return false
	}
	if token, _ := requestToken(r); !res.opensWith(token) {
		e.unauthorized(w, r, token, errors.New("this session was opened with another token"))
		return false
	}
	return true
}

// requestToken returns the bearer token of a request, or the one in its query.
func requestToken(r *http.Request) (token string, inURL bool) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), false
	}
	q := r.URL.Query()
	for _, name := range []string{"token", "auth"} {
		if t := q.Get(name); t != "" {
			return t, true
		}
	}
	return "", false
}

func mediaType(r *http.Request) string {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return t
}

// readBody returns a body of the given type and at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, want string, limit int64) ([]byte, error) {
	if mediaType(r) != want {
		return nil, Errorf(http.StatusUnsupportedMediaType, "send the body as %s", want)
	}
	tooLarge := Errorf(http.StatusRequestEntityTooLarge, "the body may have %d bytes", limit)
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // not every ResponseWriter can
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if tooMany := (*http.MaxBytesError)(nil); errors.As(err, &tooMany) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "the body ended early")
	}
	return body, nil
}
