package recording

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Folder looks things up in a folder of recordings, which others may write to meanwhile. It remembers what it has read. Its
// methods may be called by any goroutine.
type Folder struct {
	dir   string
	paste sync.Mutex // one at a time

	mu    sync.Mutex
	known map[string]*entry
}

// An entry is a recording that was read as far as it had come.
type entry struct {
	name string
	size int64
	err  error // it cannot be read
	index
}

// A File is a recording.
type File struct {
	Name string    `json:"name"`
	Size int64     `json:"size"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// NewFolder returns the Folder dir, which need not exist yet.
func NewFolder(dir string) *Folder { return &Folder{dir: dir, known: map[string]*entry{}} }

// entries returns what can be read, by time. Those that hold nothing yet are left out.
func (l *Folder) entries() ([]entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, err := os.ReadDir(l.dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var list []entry
	present := map[string]bool{}
	for _, n := range names {
		info, err := n.Info()
		if err != nil || !info.Mode().IsRegular() || !ValidName(n.Name()) {
			continue
		}
		present[n.Name()] = true
		e := l.known[n.Name()]
		if e == nil || info.Size() < e.whole {
			e = &entry{name: n.Name()}
			l.known[n.Name()] = e
		}
		if info.Size() != e.size {
			e.size = info.Size()
			e.err = e.read(filepath.Join(l.dir, e.name))
		}
		if !e.first[pictures].from.IsZero() {
			list = append(list, *e)
		}
	}
	for name := range l.known {
		if !present[name] {
			delete(l.known, name)
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return a.first[pictures].from.Compare(b.first[pictures].from) })
	return list, nil
}

// read reads what is new.
func (e *entry) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return e.scan(f, e.size, nil)
}

// Files returns the recordings, the oldest first.
func (l *Folder) Files() ([]File, error) {
	entries, err := l.entries()
	files := make([]File, len(entries))
	for i, e := range entries {
		files[i] = File{e.name, e.size, e.first[pictures].from, e.last[pictures].to}
	}
	return files, err
}

// Gaps returns what is missing between the recordings, the oldest first.
func (l *Folder) Gaps() ([]Gap, error) {
	entries, err := l.entries()
	gaps := []Gap{}
	for i := range entries {
		if i > 0 {
			if g, ok := between(&entries[i-1].index, &entries[i].index); ok {
				gaps = append(gaps, g)
			}
		}
	}
	return gaps, err
}

// between returns the gap between two recordings, if there is one.
func between(a, b *index) (Gap, bool) {
	end, begin := a.last, b.first
	last := end[pictures].to.Add(-end[pictures].step)
	g := Gap{From: last, To: begin[pictures].from, SoundFrom: end[sound].to, SoundTo: begin[sound].from}
	if g.SoundFrom.IsZero() {
		g.SoundFrom = end[pictures].to
	}
	if g.SoundTo.IsZero() {
		g.SoundTo = g.To
	}
	return g, g.To.Sub(end[pictures].to) > max(tolerance, end[pictures].step/2)
}

// Newest returns when the newest picture was captured, zero where there is none.
func (l *Folder) Newest() (newest time.Time, err error) {
	entries, err := l.entries()
	for _, e := range entries {
		if e.last[pictures].to.After(newest) {
			newest = e.last[pictures].to
		}
	}
	return newest, err
}
