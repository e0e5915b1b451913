package restream

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"

	"gantry/relay/access"
)

// Handler serves a stream's destinations to who may publish it, and leaves all other addresses to next:
//
//	GET    /api/v1/streams/{stream}/restream         their States
//	POST   /api/v1/streams/{stream}/restream         a Destination without its stream: 201; one of that name is replaced
//	DELETE /api/v1/streams/{stream}/restream/{name}  204
//	POST   /api/v1/streams/{stream}/restream/{name}/start, stop  204
//	GET    /api/v1/restream                          the States of all streams'
func (s *Server) Handler(authorize func(token, stream string) error, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, order := steered(r.URL.Path)
		stream, name, ok := split(path)
		all := r.URL.Path == "/api/v1/restream"
		if !ok && !all {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-store") // and no CORS: pages of other sites have no business here
		if err := authorize(access.Token(r), stream); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem(w, http.StatusUnauthorized, err)
			return
		}
		switch {
		case r.Method == http.MethodPost && order != "":
			if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/json" {
				problem(w, http.StatusUnsupportedMediaType, errForeign)
				return
			}
			answer(w, s.Steer(stream, name, order == "stop"), http.StatusNoContent)
		case order != "":
			problem(w, http.StatusMethodNotAllowed, errors.New("POST …/start or …/stop"))
		case r.Method == http.MethodGet && name == "":
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(s.States(stream)) // the client may be gone
		case r.Method == http.MethodPost && name == "" && !all:
			s.post(w, r, stream)
		case r.Method == http.MethodDelete && name != "":
			answer(w, s.Remove(stream, name), http.StatusNoContent)
		default:
			problem(w, http.StatusMethodNotAllowed, errors.New("GET and POST …/restream, DELETE …/restream/{name}"))
		}
	})
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, stream string) {
	// A page of another site cannot send this type without asking first, and nobody grants it.
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, errForeign)
		return
	}
	var d Destination
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8192))
	body.DisallowUnknownFields()
	if err := body.Decode(&d); err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	d.Stream = stream
	answer(w, s.Add(d), http.StatusCreated)
}

// errForeign: the request may be the doing of another site's page.
var errForeign = errors.New("send the body as application/json")

func answer(w http.ResponseWriter, err error, good int) {
	switch {
	case err == nil:
		w.WriteHeader(good)
	case errors.Is(err, ErrUnknown):
		problem(w, http.StatusNotFound, err)
	case errors.Is(err, ErrTooMany):
		problem(w, http.StatusConflict, err)
	case errors.Is(err, ErrNotKept):
		problem(w, http.StatusInternalServerError, err)
	default:
		problem(w, http.StatusBadRequest, err)
	}
}

// steered takes a final /start or /stop off the address of a destination.
func steered(path string) (rest, order string) {
	for _, order := range []string{"start", "stop"} {
		if rest, ok := strings.CutSuffix(path, "/"+order); ok {
			if _, name, ok := split(rest); ok && name != "" {
				return rest, order
			}
		}
	}
	return path, ""
}

// split reads /api/v1/streams/{stream}/restream[/{name}]; a stream's name has slashes, a destination's none.
func split(path string) (stream, name string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/api/v1/streams/")
	if !ok {
		return "", "", false
	}
	if stream, ok := strings.CutSuffix(rest, "/restream"); ok {
		return stream, "", true
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return "", "", false
	}
	stream, ok = strings.CutSuffix(rest[:i], "/restream")
	return stream, rest[i+1:], ok && rest[i+1:] != ""
}

// problem answers as RFC 9457 asks.
func problem(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": err.Error()})
}
