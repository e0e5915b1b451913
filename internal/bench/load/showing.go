package load

import (
	"fmt"
	"slices"
	"time"
)

// InTime is how late a picture may be beside the fastest ones to be shown: a player's patience.
const InTime = 400 * time.Millisecond

// A Showing is what a player with that much patience shows: pictures that are whole, as are all before them since their key frame.
type Showing struct {
	Pictures int           // that ought to have been shown
	Shown    int           // in time
	Broken   int           // something of them, or of those before since the key frame, never came
	Worst    time.Duration // of those shown, behind the fastest
}

// Share returns the part that was shown, 0 to 1.
func (s Showing) Share() float64 { return float64(s.Shown) / float64(max(1, s.Pictures)) }

// Add adds o's.
func (s *Showing) Add(o Showing) {
	s.Pictures, s.Shown, s.Broken, s.Worst = s.Pictures+o.Pictures, s.Shown+o.Shown, s.Broken+o.Broken, max(s.Worst, o.Worst)
}

// String says it in words.
func (s Showing) String() string {
	return fmt.Sprintf("%d of %d pictures in time (%.1f %%), the worst %v late, %d broken", s.Shown, s.Pictures, 100*s.Share(),
		s.Worst.Round(time.Millisecond), s.Broken)
}

// A received is one packet of video as it was sent first, by whatever way it came.
type received struct {
	seq         int // without wrapping
	ts          uint32
	marker, key bool
	at          time.Time
}

// Kept is what has been received since the last reset.
type kept struct {
	packets []received
	newest  uint32 // RTP time of all
	cut     bool
	after   uint32 // where cut: the newest picture before the reset. What comes late of it and of older ones is no picture
}

func (k *kept) add(r received) {
	if k.cut && int32(r.ts-k.after) <= 0 {
		return
	}
	if len(k.packets) == 0 || int32(r.ts-k.newest) > 0 {
		k.newest = r.ts
	}
	k.packets = append(k.packets, r)
}

func (k *kept) reset() {
	if len(k.packets) > 0 {
		k.cut, k.after = true, k.newest
	}
	k.packets = nil
}

// A shownPicture is what has come of one.
type shownPicture struct {
	ts         uint32
	whole, key bool
	at         time.Time // of its last packet
}

// assemble puts packets together. A sequence number that is missing breaks the picture it is in, or, between two, both.
func assemble(packets []received) (pictures []shownPicture) {
	packets = slices.Clone(packets)
	slices.SortStableFunc(packets, func(a, b received) int { return a.seq - b.seq })
	for i, p := range packets {
		if i > 0 && p.seq == packets[i-1].seq {
			continue
		}
		gap := i > 0 && p.seq != packets[i-1].seq+1
		n := len(pictures)
		if n > 0 && gap {
			pictures[n-1].whole = pictures[n-1].whole && packets[i-1].marker
		}
		if n == 0 || p.ts != pictures[n-1].ts {
			pictures = append(pictures, shownPicture{ts: p.ts, whole: !gap})
			n++
		}
		last := &pictures[n-1]
		last.key = last.key || p.key
		if p.at.After(last.at) {
			last.at = p.at
		}
	}
	return pictures
}

// judge tells which of the pictures are shown. Pictures before the first key frame are none, and the
// newest 400 ms are left out: more may come of them.
func judge(packets []received) (s Showing) {
	pictures := assemble(packets)
	first := slices.IndexFunc(pictures, func(p shownPicture) bool { return p.key })
	if first < 0 {
		return s
	}
	pictures = pictures[first:]
	zero := pictures[0]
	way := func(p shownPicture) time.Duration { // and an unknown constant
		return p.at.Sub(zero.at) - time.Duration(int32(p.ts-zero.ts))*time.Second/90000
	}
	fastest, newest := way(zero), zero.at
	for _, p := range pictures {
		if p.whole {
			fastest = min(fastest, way(p))
		}
		if p.at.After(newest) {
			newest = p.at
		}
	}
	var ready time.Time // when all since the key frame were there
	decodable := false
	for _, p := range pictures {
		if p.at.After(newest.Add(-InTime)) {
			break
		}
		s.Pictures++
		if p.key {
			ready, decodable = time.Time{}, true
		}
		if decodable = decodable && p.whole; !decodable {
			s.Broken++
			continue
		}
		if p.at.After(ready) {
			ready = p.at
		}
		if late := way(p) + ready.Sub(p.at) - fastest; late <= InTime {
			s.Shown++
			s.Worst = max(s.Worst, late)
		}
	}
	return s
}
