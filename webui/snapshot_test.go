package webui

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type cameraBox struct {
	fakeBox
	made  *atomic.Int64
	fails *atomic.Bool
}

func (b cameraBox) Snapshot(ctx context.Context, width int) ([]byte, error) {
	if b.fails.Load() {
		<-ctx.Done()
		return nil, errors.New("the source is silent")
	}
	time.Sleep(40 * time.Millisecond) // of the bubble's clock
	b.made.Add(1)
	return []byte{0xff, 0xd8, byte(width)}, nil
}

// Twenty who ask at once cost one picture; a second later there is a new one; each size is one of its own, and not too many.
func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := cameraBox{made: new(atomic.Int64), fails: new(atomic.Bool)}
		h := Handler(box, nil)
		ask := func(query string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/snapshot.jpg"+query, nil))
			return w
		}
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if w := ask(""); w.Code != 200 || w.Header().Get("Content-Type") != "image/jpeg" || w.Header().Get("Cache-Control") != "no-store" {
					t.Errorf("%d %v", w.Code, w.Header())
				}
			})
		}
		group.Wait()
		if n := box.made.Load(); n != 1 {
			t.Errorf("%d pictures were made", n)
		}
		time.Sleep(snapshotFresh)
		ask("")
		if n := box.made.Load(); n != 2 {
			t.Errorf("%d pictures were made after a second", n)
		}
		for i, width := range []string{"320", "640", "64", "128"} {
			if w := ask("?width=" + width); (w.Code == 200) != (i < 3) {
				t.Errorf("size %d: %d", i, w.Code)
			}
		}
		for _, width := range []string{"0", "-1", "5", "100000", "x"} {
			if w := ask("?width=" + width); w.Code != 400 {
				t.Errorf("width %s: %d", width, w.Code)
			}
		}
		time.Sleep(snapshotFresh)
		box.fails.Store(true)
		begin := time.Now()
		if w := ask(""); w.Code != 503 || time.Since(begin) != snapshotWait {
			t.Errorf("%d after %v", w.Code, time.Since(begin))
		}
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://evil.example/snapshot.jpg", nil)
	if Handler(cameraBox{}, nil).ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("another host: %d", w.Code)
	}
	w = httptest.NewRecorder()
	if Handler(fakeBox{}, nil).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/snapshot.jpg", nil)); w.Code != 404 {
		t.Errorf("a box without pictures: %d", w.Code)
	}
}
