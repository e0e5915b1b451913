package whip

import (
	"crypto/rand"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// logged is how many characters of a session's id are shown in logs.
const logged = 8

// A resource is a session's HTTP side.
type resource struct {
	id, stream string
	token      string
	tokenInURL bool
	session    Session
	extensions []Extension

	mu         sync.Mutex // held over each call of the session
	etag       string     // of the current ICE session (RFC 9725 §4.3.1)
	remote     string     // the client's current ufrag
	restarted  Fragment   // our answer to the last restart, for a client that repeats it
	unanswered bool       // a counter-offer waits for its answer
}

// find returns the session that path leads to or into, and the rest of the path below it. Names of streams have slashes, so
// each part of the path may be the session.
func (e *Endpoint) find(path string) (res *resource, rest string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for end := len(path); end > 0; {
		start := strings.LastIndexByte(path[:end], '/')
		if start < 0 {
			return nil, ""
		}
		if r := e.sessions[path[start+1:end]]; r != nil && r.stream == path[:start] {
			return r, strings.TrimPrefix(path[end:], "/")
		}
		end = start
	}
	return nil, ""
}

// register enters res and watches it until it ends; false when the Endpoint is closed.
func (e *Endpoint) register(res *resource) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.sessions[res.id] = res
	e.work.Go(func() { e.watch(res) })
	return true
}

// watch takes a session out of the table when it ends.
func (e *Endpoint) watch(res *resource) {
	var expired <-chan time.Time
	res.mu.Lock()
	unanswered := res.unanswered
	res.mu.Unlock()
	if unanswered {
		t := time.NewTimer(CounterOfferLife)
		defer t.Stop()
		expired = t.C
	}
	for {
		select {
		case <-expired:
			res.mu.Lock()
			waiting := res.unanswered
			res.mu.Unlock()
			if !waiting {
				expired = nil
				continue
			}
		case <-res.session.Done():
		}
		break
	}
	e.forget(res)
	_ = res.session.Close()
}

func (e *Endpoint) forget(res *resource) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, res.id)
}

func (res *resource) opensWith(token string) bool {
	if token == "" || res.token == "" {
		return res.token == "" || res.tokenInURL
	}
	return subtle.ConstantTimeCompare([]byte(token), []byte(res.token)) == 1
}

// patch applies a fragment under the conditions of If-Match (RFC 9725 §4.3.1 to §4.3.3). An empty etag means that candidates
// were taken; else the ICE session was restarted and reply is our side of it.
func (res *resource) patch(f Fragment, ifMatch []string, log *slog.Logger) (reply Fragment, etag string, err error) {
	res.mu.Lock()
	defer res.mu.Unlock()
	fresh := f.Ufrag != "" && f.Ufrag != res.remote
	any, match := conditions(ifMatch, res.etag)
	switch {
	case len(ifMatch) == 0 && f.Ufrag != "" && !fresh:
		// Clients that know no conditional requests: which ICE session they mean is plain all the same.
		log.Info("candidates without If-Match taken", "stream", res.stream, "session", res.id[:logged])
	case len(ifMatch) == 0:
		return reply, "", Errorf(http.StatusPreconditionRequired, `send If-Match: the ETag of the 201 with candidates, "*" with an ICE restart`)
	case !any && !match:
		return reply, "", Errorf(http.StatusPreconditionFailed, "the ETag is not that of the current ICE session: candidates of an older one are not taken")
	}
	if !fresh {
		if any && f.Ufrag != "" && res.restarted.Ufrag != "" {
			return res.restarted, res.etag, nil // the answer to this restart was lost on its way
		}
		return reply, "", res.session.Trickle(f)
	}
	reply, err = res.session.Restart(f)
	if err != nil {
		return reply, "", err
	}
	res.etag, res.remote, res.restarted = newETag(), f.Ufrag, reply
	return reply, res.etag, nil
}

// answer hands the client's answer to a counter-offer on.
func (res *resource) answer(sdp string) error {
	res.mu.Lock()
	defer res.mu.Unlock()
	s, ok := res.session.(Answerer)
	if !ok || !res.unanswered {
		return Errorf(http.StatusConflict, "no offer of the server waits for an answer: send candidates as %s", FragmentType)
	}
	if err := s.Answer(sdp); err != nil {
		return err
	}
	res.unanswered, res.remote = false, lastUfrag(sdp)
	return nil
}

// conditions reads If-Match (RFC 9110 §13.1.1): whether it matches anything, and whether it names etag. A weak tag never
// matches. RFC 9725's examples write the star in quotes.
func conditions(fields []string, etag string) (any, match bool) {
	for _, field := range fields {
		for tag := range strings.SplitSeq(field, ",") {
			switch strings.TrimSpace(tag) {
			case "*", `"*"`:
				any = true
			case etag:
				match = true
			}
		}
	}
	return any, match
}

// newETag returns a strong entity tag that no other ICE session has.
func newETag() string { return `"` + rand.Text() + `"` }

// lastUfrag returns the ICE user fragment of an SDP. With bundling there is one transport, so any is that of all.
func lastUfrag(sdp string) string {
	const key = "a=ice-ufrag:"
	i := strings.LastIndex(sdp, key)
	if i < 0 {
		return ""
	}
	sdp = sdp[i+len(key):]
	if end := strings.IndexAny(sdp, "\r\n"); end >= 0 {
		sdp = sdp[:end]
	}
	return sdp
}

// addExtensions announces a session's extensions and returns them.
func addExtensions(h http.Header, s Session, at url.URL) []Extension {
	x, ok := s.(Extender)
	if !ok {
		return nil
	}
	extensions := x.Extensions()
	for _, x := range extensions {
		h.Add("Link", Link{URL: at.JoinPath(x.Name).EscapedPath(), Rel: x.Rel, Params: x.Params}.String())
	}
	return extensions
}
