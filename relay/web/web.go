// Package web is what people and programs see of a relay beside the media: the player page and the player as an ES module,
// the page that lists what is on the air, the JSON API, metrics and health.
//
// It reads the Hub, and changes nothing but which of a stream's publishers is forwarded. It knows no WHIP and no WHEP: the player speaks WHEP from the browser to whatever
// serves it.
//
//	GET /                   what is on the air (with play tokens: 401 and a form that asks for one)
//	GET /play/{stream}      the player page; parameters token, muted, controls, autoplay, stats
//	GET /restream           where streams are sent on to; its script asks for a publish token where one is needed
//	GET /gantry-player.js   the player, to be imported by any page (CORS), and gantry-player/… that it imports
//	GET /api/v1/streams     JSON, see Streams
//	POST /api/v1/streams/{stream}/publishers/{id}   JSON, see Ruling (with publish tokens: wants one)
//	GET /api/v1/time        JSON, {"now": milliseconds since 1970}: a player's clock is set by it
//	GET /metrics            Prometheus
//	GET /healthz            200 "ok", or 503 and why not
//
// Where play tokens are set, /api/v1/streams wants one (bearer or ?token=; a publish token will do), and / shows nothing
// without. The player page and its scripts are the same for everybody and hold no stream's data, so they are open: a viewer
// without a token must be told so. Metrics are totals without names or addresses, and open as well.
package web

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"gantry/internal/metrics"
	"gantry/relay"
	"gantry/relay/access"
)

// Hub is what the pages show.
type Hub interface {
	Streams() []relay.Info
	SetPriority(stream, id string, priority int) error
	Choose(stream, id string) error
}

// Options make a Site. Hub, Metrics and Log must be set.
type Options struct {
	Hub     Hub
	Policy  *access.Policy    // nil: everything is open
	Metrics *metrics.Registry // served at /metrics; the Site adds what it knows of the Hub
	Version string            // shown on the page and in the API
	Publish Publish           // what else than WHIP takes publishers
	Health  func() error      // why the relay is not well; nil is always well
	Log     *slog.Logger
}

// Publish names the ports beside HTTP's that take publishers; 0 is none.
type Publish struct {
	SRT                 int  `json:"srt,omitempty"`
	SRTPassphraseNeeded bool `json:"srtPassphraseNeeded,omitempty"`
	RTMP                int  `json:"rtmp,omitempty"`
	RTMPS               int  `json:"rtmps,omitempty"`
}

// A Site is an http.Handler for all paths but those of the protocols.
type Site struct {
	options Options
	mux     *http.ServeMux
}

// New returns a Site. It panics when Options lack what they must have, or when its metrics are registered already.
func New(o Options) *Site {
	s := &Site{options: o, mux: http.NewServeMux()}
	collectHub(o.Metrics, o.Hub)
	page := func(name, frames string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { servePage(w, r, name, frames, http.StatusOK) }
	}
	s.mux.HandleFunc("GET /{$}", s.index)
	s.mux.HandleFunc("GET /restream", page("restream.html", "'none'"))
	s.mux.HandleFunc("GET /play/{stream...}", page("play.html", "*")) // any site may frame the player
	for _, name := range modules {
		s.mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
			serveAsset(w, r, name, http.StatusOK)
		})
	}
	for _, name := range pageParts {
		s.mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { serveAsset(w, r, name, http.StatusOK) })
	}
	s.mux.HandleFunc("GET /api/v1/streams", s.streams)
	s.mux.HandleFunc("OPTIONS /api/v1/streams", preflight)
	s.mux.HandleFunc("POST /api/v1/streams/{path...}", s.rule)
	s.mux.HandleFunc("OPTIONS /api/v1/streams/{path...}", s.rulePreflight)
	s.mux.HandleFunc("GET /api/v1/time", now)
	s.mux.HandleFunc("GET /healthz", s.health)
	s.mux.Handle("GET /metrics", o.Metrics.Handler())
	return s
}

// ServeHTTP answers one request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer") // an address may hold a token
	s.mux.ServeHTTP(w, r)
}

// mayList returns nil when the request's token shows what is on the air.
func (s *Site) mayList(r *http.Request) error {
	token := access.Token(r)
	err := s.options.Policy.Play(token, "")
	if err != nil && s.options.Policy.AsksPublishers() && s.options.Policy.Publish(token, "") == nil {
		return nil
	}
	return err
}

func (s *Site) index(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	if s.mayList(r) != nil {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	servePage(w, r, "index.html", "'self'", status)
}

// Streams is the body of /api/v1/streams.
type Streams struct {
	Version            string       `json:"version"`
	PublishTokenNeeded bool         `json:"publishTokenNeeded"`
	PlayTokenNeeded    bool         `json:"playTokenNeeded"`
	Publish            Publish      `json:"publish"` // ports that take publishers
	Streams            []relay.Info `json:"streams"` // by name; never a token
}

// streams answers with what is on the air. Publishers' addresses are shown to who may publish only.
func (s *Site) streams(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*") // no cookies are involved: a token is in the request or it is not
	w.Header().Set("Cache-Control", "no-store")
	if err := s.mayList(r); err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		problem(w, http.StatusUnauthorized, err.Error())
		return
	}
	p := s.options.Policy
	body := Streams{Version: s.options.Version, PublishTokenNeeded: p.AsksPublishers(), PlayTokenNeeded: p.AsksViewers(), Publish: s.options.Publish, Streams: s.options.Hub.Streams()}
	if p.Publish(access.Token(r), "") != nil {
		for i := range body.Streams {
			for j := range body.Streams[i].Publishers {
				body.Streams[i].Publishers[j].Remote = ""
			}
		}
	}
	writeJSON(w, "application/json", http.StatusOK, body)
}

// preflight lets pages of other origins send a token (Fetch §3.2.2).
func preflight(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Access-Control-Allow-Methods", "GET")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization")
	w.Header().Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

func now(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, map[string]float64{"now": float64(time.Now().UnixMicro()) / 1000})
}

func (s *Site) health(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.options.Health != nil {
		if err := s.options.Health(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// problem answers as RFC 9457 asks.
func problem(w http.ResponseWriter, status int, detail string) {
	writeJSON(w, "application/problem+json", status, map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

func writeJSON(w http.ResponseWriter, contentType string, status int, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
