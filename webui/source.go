package webui

import (
	"encoding/json"
	"errors"
	"net/http"
)

// A Source is what people choose of the input for pictures. Empty fields of a kind that is not chosen are left as they are.
type Source struct {
	Kind  string   `json:"kind"`
	Kinds []string `json:"kinds,omitempty"` // that there are
	Sound bool     `json:"sound"`           // of an input that brings sound: use it
	V4L2  string   `json:"v4l2"`            // device
	RTSP  struct {
		URL       string `json:"url"`
		User      string `json:"user"`
		Password  string `json:"password,omitempty"` // empty in answers; empty in a request leaves it as it is
		Transport string `json:"transport"`
	} `json:"rtsp"`
	File string `json:"file"` // path
	UDP  struct {
		Addr      string `json:"addr"`
		Interface string `json:"interface"`
	} `json:"udp"`
}

// A Chooser is a Box whose source can be chosen.
type Chooser interface {
	Source() Source
	// SetSource writes the choice to the configuration and has it used. Its error wraps ErrBadSource where the choice cannot be.
	SetSource(Source) error
}

// ErrBadSource: what was chosen is not valid.
var ErrBadSource = errors.New("not a valid source")

const maxSource = 16 << 10 // bytes of a request

func choose(c Chooser) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			s := c.Source()
			s.RTSP.Password = ""
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(s)
			return
		}
		var s Source
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSource))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			http.Error(w, "not the JSON of a source: "+err.Error(), http.StatusBadRequest)
			return
		}
		switch err := c.SetSource(s); {
		case errors.Is(err, ErrBadSource):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}
}
