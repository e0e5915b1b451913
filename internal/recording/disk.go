package recording

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// nearlyFull is the share of the room from which on a person is warned.
const nearlyFull = 0.9

// ours are the names of recordings: when each began, UTC.
var ours = regexp.MustCompile(`^\d{8}T\d{6}\.\d{3}Z(-\d+)?\.mp4$`)

// ValidName tells whether a file may be a recording of ours.
func ValidName(name string) bool { return ours.MatchString(name) }

// A Disk is a folder of recordings, or of folders of them, and what they may take together. Its methods may be called by any
// goroutine.
type Disk struct {
	config Config

	mu   sync.Mutex
	open map[string]bool // paths that are written to
	used int64           // bytes of all recordings
	free int64           // bytes of the file system
	gone bool            // recordings had to go
}

// NewDisk returns the Disk of a valid Config. It touches nothing.
func NewDisk(c Config) *Disk { return &Disk{config: c, open: map[string]bool{}} }

// create makes the file of a recording that begins at a wall time, in a folder of the Disk ("" is the Disk's own). Its name is
// on the disk when create returns.
func (d *Disk) create(folder string, at time.Time) (*os.File, error) {
	dir := filepath.Join(d.config.Dir, folder)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	base := at.UTC().Format("20060102T150405.000Z")
	for i := 0; ; i++ {
		name := base + ".mp4"
		if i > 0 { // the clock was set back
			name = fmt.Sprintf("%s-%d.mp4", base, i)
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
		if errors.Is(err, os.ErrExist) && i < 100 {
			continue
		}
		if err != nil {
			return nil, err
		}
		parent, err := os.Open(dir)
		if err == nil {
			err = errors.Join(parent.Sync(), parent.Close())
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		d.hold(f.Name())
		return f, nil
	}
}

// hold keeps a file from being deleted until release.
func (d *Disk) hold(path string) {
	d.mu.Lock()
	d.open[path] = true
	d.mu.Unlock()
}

func (d *Disk) release(path string) {
	d.mu.Lock()
	delete(d.open, path)
	d.mu.Unlock()
}

func (d *Disk) wrote(n int64) {
	d.mu.Lock()
	d.used += n
	d.mu.Unlock()
}

// A stored file is a recording as the file system has it.
type stored struct {
	path string
	size int64
}

// list returns all recordings, the oldest first.
func (d *Disk) list() (list []stored, err error) {
	dirs := []string{d.config.Dir}
	for len(dirs) > 0 {
		entries, err := os.ReadDir(dirs[0])
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			path := filepath.Join(dirs[0], e.Name())
			if e.IsDir() && dirs[0] == d.config.Dir {
				dirs = append(dirs, path)
			}
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() && ValidName(e.Name()) {
				list = append(list, stored{path, info.Size()})
			}
		}
		dirs = dirs[1:]
	}
	slices.SortFunc(list, func(a, b stored) int {
		return cmp.Or(cmp.Compare(filepath.Base(a.path), filepath.Base(b.path)), cmp.Compare(a.path, b.path))
	})
	return list, nil
}

// makeRoom deletes the oldest recordings, but none that is written to, until the budget has room for more bytes and the disk
// for some of them. There may be none.
func (d *Disk) makeRoom(more int64) error {
	if err := os.MkdirAll(d.config.Dir, 0o750); err != nil {
		return err
	}
	list, err := d.list()
	if err != nil {
		return err
	}
	left, err := free(d.config.Dir)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used, d.free = 0, left
	for _, r := range list {
		d.used += r.size
	}
	for _, r := range list {
		if d.used+more <= int64(d.config.Budget) && d.free-more/10 >= int64(d.config.Spare) {
			break
		}
		if d.open[r.path] {
			continue
		}
		if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		d.used -= r.size
		d.free += r.size
		d.gone = true
	}
	if d.free-more/10 < int64(d.config.Spare) {
		return fmt.Errorf("the disk has %v free, of which %v are to stay so: %w", Size(d.free), d.config.Spare, unix.ENOSPC)
	}
	return nil
}

func free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Used returns the bytes of all recordings, as of the last look at the disk and what was written since.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Warning says what a person should know of the room that is left; empty: nothing.
func (d *Disk) Warning() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	room := min(int64(d.config.Budget), d.used+max(d.free-int64(d.config.Spare), 0)) // that recordings can ever have
	switch {
	case d.free == 0: // nobody has looked yet
	case d.gone:
		return fmt.Sprintf("the room for recordings, %v, is used up: the oldest are deleted", Size(room))
	case float64(d.used+int64(d.config.Size)) > nearlyFull*float64(room):
		return fmt.Sprintf("recordings take %v of the %v there is room for; soon the oldest will be deleted", Size(d.used), Size(room))
	}
	return ""
}
