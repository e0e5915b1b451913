package pipeline

import (
	"sync"
	"time"

	"gantry/media"
)

// keyLimit is the least time between key frames that destinations ask for. A request within it is served at its end.
const keyLimit = 250 * time.Millisecond

// feedback merges what the destinations say. Its methods never block.
type feedback struct {
	mu      sync.Mutex
	wanted  bool
	carries map[string]int    // bit/s by destination that is connected; 0: no opinion
	follows map[string]string // rendition by destination whose opinion counts for it
	lastKey time.Duration     // PTS of the last key frame that was asked for
	asked   uint64
}

func newFeedback() *feedback {
	return &feedback{carries: map[string]int{}, follows: map[string]string{}, lastKey: -time.Hour}
}

// put takes what a destination says. It counts from its first word to leave.
func (b *feedback) put(name string, f media.Feedback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted = b.wanted || f.KeyFrame
	if f.Bitrate > 0 {
		b.carries[name] = f.Bitrate
	}
}

// join says that a destination gets this rendition, and whether what its path carries counts.
func (b *feedback) join(name, rid string, aside bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.follows, name)
	if !aside {
		b.follows[name] = rid
	}
}

// leave forgets a destination.
func (b *feedback) leave(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.carries, name)
	delete(b.follows, name)
}

// smallest returns what the narrowest path that counts for this rendition carries, 0 when nobody has said.
func (b *feedback) smallest(rid string) (bps int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, c := range b.carries {
		if follows, counts := b.follows[name]; !counts || follows != rid {
			continue
		}
		if bps == 0 || c < bps {
			bps = c
		}
	}
	return bps
}

func (b *feedback) of(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.carries[name]
}

// key says whether the picture with this PTS shall be a key frame because it follows a cut or somebody asked: the one rate
// limit there is for the latter.
func (b *feedback) key(pts time.Duration, cut bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cut {
		b.wanted, b.lastKey = false, pts
		return true
	}
	if !b.wanted || pts-b.lastKey < keyLimit && pts >= b.lastKey {
		return false
	}
	b.wanted, b.lastKey = false, pts
	b.asked++
	return true
}
