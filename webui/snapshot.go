package webui

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A Snapshotter is a Box that can show its newest picture.
type Snapshotter interface {
	// Snapshot returns a JPEG of the next picture, of that width in pixels, or of its own where width is 0 or larger. It waits for the
	// picture until ctx ends.
	Snapshot(ctx context.Context, width int) ([]byte, error)
}

const (
	snapshotFresh = time.Second     // for so long the same picture is given again
	snapshotWait  = 5 * time.Second // for the next picture
	snapshotSizes = 4               // that are kept
	minSnapshot   = 16
	maxSnapshot   = 3840
)

// snapshots serves the newest picture. One is made at a time, and each size at most once a second, however many ask.
type snapshots struct {
	from Snapshotter
	busy chan struct{} // held by who makes one, or looks at fresh

	fresh map[int]snapshot // by width
}

type snapshot struct {
	data []byte
	at   time.Time
}

func newSnapshots(from Snapshotter) *snapshots {
	return &snapshots{from: from, busy: make(chan struct{}, 1), fresh: map[int]snapshot{}}
}

func (s *snapshots) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	width := 0
	if text := r.URL.Query().Get("width"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < minSnapshot || n > maxSnapshot {
			http.Error(w, fmt.Sprintf("width: want %d to %d", minSnapshot, maxSnapshot), http.StatusBadRequest)
			return
		}
		width = n
	}
	ctx, cancel := context.WithTimeout(r.Context(), snapshotWait)
	defer cancel()
	data, err := s.get(ctx, width)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("no picture: %v", err), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin") // no other site's page may show it
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// get returns a picture that is no older than snapshotFresh.
func (s *snapshots) get(ctx context.Context, width int) ([]byte, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for kept, old := range s.fresh {
		if time.Since(old.at) >= snapshotFresh {
			delete(s.fresh, kept)
		}
	}
	if have, ok := s.fresh[width]; ok {
		return have.data, nil
	}
	if len(s.fresh) >= snapshotSizes {
		return nil, fmt.Errorf("too many sizes are asked for: %d a second are made", snapshotSizes)
	}
	data, err := s.from.Snapshot(ctx, width)
	if err != nil {
		return nil, err
	}
	s.fresh[width] = snapshot{data, time.Now()}
	return data, nil
}
