package whip

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
)

// problem is an RFC 9457 body. Its type is about:blank, so its title is the status's own.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// fail answers with what err says, or 500 when it says nothing to a client.
func (e *Endpoint) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *Error
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, ErrUnsupported):
		refusal = Errorf(http.StatusUnprocessableEntity, "%v", err)
	default:
		e.options.Log.Error("request not answered", "remote", r.RemoteAddr, "reason", r.Method, "err", err)
		refusal = Errorf(http.StatusInternalServerError, "the server's log says more")
	}
	h := w.Header()
	if refusal.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.RetryAfter.Seconds()))))
	}
	if refusal.Status == http.StatusTemporaryRedirect && refusal.Location != "" {
		h.Set("Location", refusal.Location)
		w.WriteHeader(refusal.Status)
		return
	}
	status := refusal.Status
	if status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	h.Del("ETag")
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	_ = json.NewEncoder(w).Encode(problem{Title: http.StatusText(status), Status: status, Detail: refusal.Error()})
}

// unauthorized answers 401 as RFC 6750 §3 has it.
func (e *Endpoint) unauthorized(w http.ResponseWriter, r *http.Request, token string, err error) {
	if refusal := (*Error)(nil); errors.As(err, &refusal) {
		e.fail(w, r, err)
		return
	}
	challenge := `Bearer realm="gantry"`
	if token != "" {
		challenge += `, error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	e.options.Log.Debug("request without a valid token", "remote", r.RemoteAddr, "reason", err)
	e.fail(w, r, &Error{Status: http.StatusUnauthorized, Reason: err.Error()})
}
