package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// nearlyFull is the share of the room from which on a person is warned.
const nearlyFull = 0.9

// ours are the names of recordings: when each began, UTC.
var ours = regexp.MustCompile(`^\d{8}T\d{6}\.\d{3}Z(-\d+)?\.mp4$`)

// A disk is the folder of recordings and what it may hold.
type disk struct {
	config Config
	used   int64 // bytes of all recordings
	free   int64 // bytes of the file system
	gone   bool  // recordings had to go
}

// create makes the file of a recording that begins at a wall time. Its name is on the disk when create returns.
func (d *disk) create(at time.Time) (*os.File, error) {
	if err := os.MkdirAll(d.config.Dir, 0o750); err != nil {
		return nil, err
	}
	base := at.UTC().Format("20060102T150405.000Z")
	for i := 0; ; i++ {
		name := base + ".mp4"
		if i > 0 { // the clock was set back
			name = fmt.Sprintf("%s-%d.mp4", base, i)
		}
		f, err := os.OpenFile(filepath.Join(d.config.Dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
		if errors.Is(err, os.ErrExist) && i < 100 {
			continue
		}
		if err != nil {
			return nil, err
		}
		folder, err := os.Open(d.config.Dir)
		if err == nil {
			err = errors.Join(folder.Sync(), folder.Close())
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}

// makeRoom deletes the oldest recordings, but not current, until the budget has room for more bytes and the disk for some of
// them. There may be none.
func (d *disk) makeRoom(current string, more int64) error {
	entries, err := os.ReadDir(d.config.Dir) // sorted by name, which is by age
	if err != nil {
		return err
	}
	type recording struct {
		path string
		size int64
	}
	var list []recording
	d.used = 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && ours.MatchString(e.Name()) {
			list = append(list, recording{filepath.Join(d.config.Dir, e.Name()), info.Size()})
			d.used += info.Size()
		}
	}
	if d.free, err = free(d.config.Dir); err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(r recording) bool { return r.path == current })
	for _, r := range list {
		if d.used+more <= int64(d.config.Budget) && d.free-more/10 >= int64(d.config.Spare) {
			break
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

// warning says what a person should know of the room that is left.
func (d *disk) warning() string {
	room := min(int64(d.config.Budget), d.used+max(d.free-int64(d.config.Spare), 0)) // that recordings can ever have
	switch {
	case d.gone:
		return fmt.Sprintf("the room for recordings, %v, is used up: the oldest are deleted", Size(room))
	case float64(d.used+int64(d.config.Size)) > nearlyFull*float64(room):
		return fmt.Sprintf("recordings take %v of the %v there is room for; soon the oldest will be deleted", Size(d.used), Size(room))
	}
	return ""
}
