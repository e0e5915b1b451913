package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"gantry/relay"
)

func (h fixedHub) SetPriority(string, string, int) error { return errors.New("read only") }
func (h fixedHub) Choose(string, string) error           { return errors.New("read only") }

// ruledHub writes down what it is told.
type ruledHub struct {
	fixedHub
	told []string
}

func (h *ruledHub) SetPriority(stream, id string, priority int) error {
	h.told = append(h.told, fmt.Sprint(stream, " ", id, " ", priority))
	return nil
}

func (h *ruledHub) Choose(stream, id string) error {
	if id == "gone" {
		return fmt.Errorf("stream %q: %w", stream, relay.ErrNoPublisher)
	}
	h.told = append(h.told, fmt.Sprint(stream, " choose ", id))
	return nil
}

func TestRuling(t *testing.T) {
	hub := &ruledHub{fixedHub: onAir}
	s, _ := site(t, hub, guarded())
	open, _ := site(t, hub, nil)
	for _, c := range []struct {
		site        *Site
		path, token string
		media, body string
		status      int
	}{
		{s, "studio/wide/publishers/x1", publishToken, "application/json", `{"priority": 7}`, 204},
		{s, "studio/wide/publishers/x1", publishToken, "application/json; charset=utf-8", `{"active": true}`, 204},
		{s, "studio/wide/publishers/x1", publishToken, "application/json", `{"active": false}`, 204},
		{open, "demo/publishers/x1", "", "application/json", `{"priority": 1, "active": true}`, 204},
		{s, "studio/wide/publishers/gone", publishToken, "application/json", `{"active": true}`, 404},
		{s, "studio/wide/publishers/x1", playToken, "application/json", `{"priority": 7}`, 401},
		{s, "studio/wide/publishers/x1", "", "application/json", `{"priority": 7}`, 401},
		{s, "studio/wide", publishToken, "application/json", `{}`, 404},
		{s, "demo/publishers/x1", publishToken, "text/plain", `{"priority": 7}`, 415},
		{s, "demo/publishers/x1", publishToken, "application/json", `{"priority": 101}`, 400},
		{s, "demo/publishers/x1", publishToken, "application/json", `{"priorty": 1}`, 400},
		{s, "demo/publishers/x1", publishToken, "application/json", `{"active": "` + strings.Repeat("x", 5000) + `"}`, 400},
	} {
		r := httptest.NewRequest("POST", "/api/v1/streams/"+c.path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.media)
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		c.site.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s %.40s: %d %s, want %d", c.path, c.body, w.Code, w.Body, c.status)
		}
		if cors := w.Header().Get("Access-Control-Allow-Origin"); (cors == "*") != (c.site == s) {
			t.Errorf("%s: Access-Control-Allow-Origin %q", c.path, cors)
		}
	}
	want := []string{"studio/wide x1 7", "studio/wide choose x1", "studio/wide choose ", "demo x1 1", "demo choose x1"}
	if !slices.Equal(hub.told, want) {
		t.Errorf("told %q, want %q", hub.told, want)
	}
	r := httptest.NewRequest(http.MethodOptions, "/api/v1/streams/demo/publishers/x1", nil)
	w := httptest.NewRecorder()
	open.ServeHTTP(w, r)
	if w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("pages of other origins may rule where there is no token")
	}
}
