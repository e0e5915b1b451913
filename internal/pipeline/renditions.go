package pipeline

import (
	"context"
	"sync"
)

// renditions is the stage of the further encodes, each as the main one is.
type renditions struct {
	setting *setting[[]Rendition]
	split   *splitter
	tracks  *tracks
	encode  func(rid string, spec Encoder, s *slot) *encode

	mu      sync.Mutex
	running []*encode
}

// run keeps an encode for each rendition; where one is added, removed or renamed, all of them are begun anew.
func (r *renditions) run(ctx context.Context) error {
	r.setting.follow(ctx, r.work)
	return nil
}

func (r *renditions) work(ctx context.Context, list []Rendition) {
	var group sync.WaitGroup
	var running []*encode
	for _, spec := range list {
		slot := r.split.add(spec.Name)
		e := r.encode(spec.Name, spec.Encoder, slot)
		running = append(running, e)
		group.Go(func() {
			_ = e.run(ctx) // nil once ctx ends
			r.split.remove(slot)
			r.tracks.forget(spec.Name)
		})
	}
	r.mu.Lock()
	r.running = running
	r.mu.Unlock()
	group.Wait()
	<-ctx.Done()
}

// apply changes the encodes where only what they do differs.
func (r *renditions) apply(list []Rendition) {
	old, _ := r.setting.get()
	r.mu.Lock()
	running := r.running
	r.mu.Unlock()
	same := len(old) == len(list) && len(running) == len(list)
	for i := range list {
		same = same && old[i].Name == list[i].Name && running[i].rid == list[i].Name
	}
	if !same {
		r.setting.set(list)
		return
	}
	for i, e := range running {
		e.setting.set(list[i].Encoder)
	}
}

func (r *renditions) all() []*encode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}
