package whep

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// layerInfo is one element of a layers event.
type layerInfo struct {
	RID     string `json:"rid"`
	Bitrate int    `json:"bitrate,omitempty"` // bit/s; none: nothing comes
	Width   int    `json:"width,omitempty"`
	Height  int    `json:"height,omitempty"`
	Current bool   `json:"current,omitempty"` // this viewer has it (an addition to the draft)
}

// describeLayers returns the data of a layers event: the layers of each video section, by its place.
func (s *session) describeLayers(now *scene) map[int][]layerInfo {
	all := map[int][]layerInfo{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.plan.sections {
		if m.kind != "video" || m.track < 0 {
			continue
		}
		for _, l := range now.layers {
			if slices.Contains(m.layers, l.track) {
				all[i] = append(all[i], layerInfo{RID: l.id, Bitrate: coarse(l.bitrate), Width: l.width, Height: l.height,
					Current: s.current() == l.track})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// coarse rounds a bit rate to steps of about a fifth: an event for each change would be one each second.
func coarse(bitrate int) int {
	step := 1000
	for step*10 <= bitrate {
		step *= 10
	}
	step /= 5
	return (bitrate + step/2) / step * step
}

// layerRequest is the body of the layer extension. Spatial and temporal layers are ignored: no codec's are taken apart.
type layerRequest struct {
	MediaID   string `json:"mediaId"`
	RID       string `json:"rid"`
	Encoding  string `json:"encodingId"` // what some players send for rid
	MaxWidth  int    `json:"maxWidth"`
	MaxHeight int    `json:"maxHeight"`
}

// serveLayer answers POST of the layer extension.
func (s *session) serveLayer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "" {
		refuse(w, http.StatusMethodNotAllowed, "POST a JSON object to the layer extension")
		return
	}
	var q layerRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&q); err != nil || q.MaxWidth < 0 || q.MaxHeight < 0 {
		refuse(w, http.StatusBadRequest, "want a JSON object with rid, maxWidth or maxHeight; an empty one leaves it to the server")
		return
	}
	if q.RID == "" {
		q.RID = q.Encoding
	}
	now := s.fan.view.scene.Load()
	if q.RID != "" && (now == nil || !slices.ContainsFunc(now.layers, func(l layer) bool { return l.id == q.RID && s.has(l.track) })) {
		refuse(w, http.StatusUnprocessableEntity, fmt.Sprintf("this session's video has no layer %.40q", q.RID))
		return
	}
	s.wants(wish{rid: q.RID, width: q.MaxWidth, height: q.MaxHeight})
	w.WriteHeader(http.StatusOK)
}

// selection is the layer that a session's client has asked for, and the track that it is sent.
type selection struct {
	mu    sync.Mutex
	wish  wish
	track int // -1: none
}

func (s *selection) set(track int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.track = track
}

func (s *session) current() int {
	s.selection.mu.Lock()
	defer s.selection.mu.Unlock()
	return s.selection.track
}

// wants notes the client's wish, and follows it when there is a viewer.
func (s *session) wants(w wish) {
	s.selection.mu.Lock()
	s.selection.wish = w
	s.selection.mu.Unlock()
	s.fan.do(false, func() {
		if v := s.viewer.Load(); v != nil {
			v.wish = w
			s.fan.adapt(v, time.Now())
		}
	})
}

// has tells whether a track may be sent to this viewer.
func (s *session) has(track int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.has(track)
}
