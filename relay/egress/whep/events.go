package whep

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"gantry/internal/proto/whip"
	"gantry/relay"
)

// The protocol extensions of a session (draft-ietf-wish-whep §4.10).
const (
	relEvents = "urn:ietf:params:whep:ext:core:server-sent-events"
	relLayer  = "urn:ietf:params:whep:ext:core:layer"
)

const (
	maxFeeds   = 4               // event streams of one session
	countEvery = 5 * time.Second // between looks at the number of viewers
)

// eventNames are the events that a client may ask for.
var eventNames = []string{"active", "inactive", "layers", "viewercount", "reconnect"}

// Extensions implements whip.Extender.
func (s *session) Extensions() []whip.Extension {
	return []whip.Extension{
		{Name: "events", Rel: relEvents, Params: map[string]string{"events": strings.Join(eventNames, ",")}, Handler: &feeds{session: s}},
		{Name: "layer", Rel: relLayer, Handler: http.HandlerFunc(s.serveLayer)},
	}
}

// feeds is the resource of a session's event streams: POST makes one, GET reads it, DELETE ends it.
type feeds struct {
	session *session

	mu   sync.Mutex
	open map[string]*feed
}

// A feed is one event stream.
type feed struct {
	events []string
	gone   chan struct{} // closed by DELETE
}

func (fs *feeds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/")
	fs.mu.Lock()
	f := fs.open[id]
	fs.mu.Unlock()
	switch {
	case r.Method == http.MethodPost && id == "":
		fs.create(w, r)
	case r.Method == http.MethodGet && id == "": // for clients that know no POST: everything
		fs.session.serveEvents(w, r, &feed{events: eventNames})
	case f == nil:
		refuse(w, http.StatusNotFound, "no such event stream: POST a JSON array of event names")
	case r.Method == http.MethodGet:
		fs.session.serveEvents(w, r, f)
	case r.Method == http.MethodDelete:
		fs.mu.Lock()
		if fs.open[id] == f {
			delete(fs.open, id)
			close(f.gone)
		}
		fs.mu.Unlock()
	default:
		refuse(w, http.StatusMethodNotAllowed, "GET or DELETE an event stream")
	}
}

func (fs *feeds) create(w http.ResponseWriter, r *http.Request) {
	var names []string
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&names); err != nil || len(names) == 0 {
		refuse(w, http.StatusBadRequest, "want a JSON array of event names out of "+strings.Join(eventNames, ", "))
		return
	}
	for _, n := range names {
		if !slices.Contains(eventNames, n) {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("no event is called %.40q: there are %s", n, strings.Join(eventNames, ", ")))
			return
		}
	}
	f := &feed{events: names, gone: make(chan struct{})}
	id := rand.Text()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.open) >= maxFeeds {
		refuse(w, http.StatusTooManyRequests, "the session has all the event streams that it may have")
		return
	}
	if fs.open == nil {
		fs.open = map[string]*feed{}
	}
	fs.open[id] = f
	path, _, _ := strings.Cut(r.RequestURI, "?")
	w.Header().Set("Location", strings.TrimSuffix(path, "/")+"/"+id)
	w.WriteHeader(http.StatusCreated)
}

// serveEvents sends events until the session, the feed or the client is gone.
func (s *session) serveEvents(w http.ResponseWriter, r *http.Request, f *feed) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // not every ResponseWriter can
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	told := map[string]string{}
	send := func(event string, data any) bool {
		if !slices.Contains(f.events, event) {
			return true
		}
		body, err := json.Marshal(data)
		if err != nil || told[event] == string(body) {
			return true
		}
		told[event] = string(body)
		_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, body)
		return err == nil
	}
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	live := false
	for {
		var changed chan struct{}
		ok := true
		if now := s.fan.view.scene.Load(); now != nil {
			changed = now.next
			if now.live != live {
				live = now.live
				name := map[bool]string{true: "active", false: "inactive"}[live]
				delete(told, name)
				ok = send(name, struct{}{})
			}
			if layers := s.describeLayers(now); layers != nil {
				ok = ok && send("layers", layers)
			}
		}
		ok = ok && send("viewercount", map[string]int{"viewercount": s.server.viewers(s.who.Stream)})
		if !ok || control.Flush() != nil {
			return
		}
		if r.URL.Query().Has("once") { // a client that has no connection to spare
			return
		}
		if changed == nil {
			changed = make(chan struct{}) // nothing is known yet: the ticker comes
		}
		select {
		case <-changed:
		case <-ticker.C:
			_, _ = io.WriteString(w, ": \n\n") // keeps proxies from closing what is quiet
		case <-f.gone:
			return
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			if s.again() {
				send("reconnect", struct{}{})
				_ = control.Flush()
			}
			return
		}
	}
}

// refuse answers as RFC 9457 asks.
func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

// again tells whether a session that has ended is to be opened anew by its client.
func (s *session) again() bool {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	return s.server.closed || errors.Is(context.Cause(s.ctx), relay.ErrTracksChanged)
}

// viewers returns how many viewers a stream has, some milliseconds ago.
func (s *Server) viewers(stream string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sh := range s.fans[stream] {
		sh.fan.mu.Lock()
		n += sh.fan.stats.Viewers
		sh.fan.mu.Unlock()
	}
	return n
}
