package web

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"

	"gantry/relay"
	"gantry/relay/access"
)

// A Ruling is the body of POST /api/v1/streams/{stream}/publishers/{id}. What it does not name stays as it is.
type Ruling struct {
	Priority *int  `json:"priority"` // the highest live one is forwarded
	Active   *bool `json:"active"`   // true: forward this one now, whatever its priority; false: let the priorities decide again
}

// maxPriority bounds a Ruling's, as the ingests bound a publisher's own.
const maxPriority = 100

// rule answers POST /api/v1/streams/{stream}/publishers/{id}: who may publish a stream may say which publisher is forwarded.
func (s *Site) rule(w http.ResponseWriter, r *http.Request) {
	s.allowPost(w)
	path := r.PathValue("path") // names of streams have slashes
	i := strings.LastIndex(path, "/publishers/")
	if i < 0 {
		problem(w, http.StatusNotFound, "POST to /api/v1/streams/{stream}/publishers/{id}")
		return
	}
	stream, id := path[:i], path[i+len("/publishers/"):]
	if err := s.options.Policy.Publish(access.Token(r), stream); err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		problem(w, http.StatusUnauthorized, err.Error())
		return
	}
	// A page of another site cannot send this type without asking first, and is then refused where no token protects us.
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, "send the body as application/json")
		return
	}
	var ruling Ruling
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	body.DisallowUnknownFields()
	if err := body.Decode(&ruling); err != nil {
		problem(w, http.StatusBadRequest, "want a JSON object with priority or active: "+err.Error())
		return
	}
	if p := ruling.Priority; p != nil && (*p < 0 || *p > maxPriority) {
		problem(w, http.StatusBadRequest, "priority: want 0 to 100")
		return
	}
	if err := s.apply(stream, id, ruling); errors.Is(err, relay.ErrNoStream) || errors.Is(err, relay.ErrNoPublisher) {
		problem(w, http.StatusNotFound, err.Error())
		return
	} else if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Site) apply(stream, id string, ruling Ruling) error {
	if ruling.Priority != nil {
		if err := s.options.Hub.SetPriority(stream, id, *ruling.Priority); err != nil {
			return err
		}
	}
	switch {
	case ruling.Active == nil:
		return nil
	case *ruling.Active:
		return s.options.Hub.Choose(stream, id)
	default:
		return s.options.Hub.Choose(stream, "")
	}
}

// allowPost lets pages of other origins call rule where a token protects it.
func (s *Site) allowPost(w http.ResponseWriter) {
	if s.options.Policy.AsksPublishers() {
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}
	w.Header().Set("Cache-Control", "no-store")
}

// rulePreflight answers OPTIONS of rule (Fetch §3.2.2).
func (s *Site) rulePreflight(w http.ResponseWriter, _ *http.Request) {
	s.allowPost(w)
	w.Header().Set("Access-Control-Allow-Methods", "POST")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	w.WriteHeader(http.StatusNoContent)
}
