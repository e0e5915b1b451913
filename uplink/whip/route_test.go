package whip

import (
	"testing"
	"time"

	"gantry/media"
)

// A path of a Bond that works again begins with what the others may have under way; one that stands alone with what comes.
func TestPathResumes(t *testing.T) {
	path := &route{bond: "0123456789"}
	var kept, alone []*media.Packet
	for i := range 100 {
		p := &media.Packet{PTS: time.Duration(i) * 40 * time.Millisecond}
		kept = path.keep(append(kept, p))
		alone = (*route)(nil).keep(append(alone, p))
	}
	if len(alone) != 0 || len(kept) != 13 || kept[12].PTS-kept[0].PTS != 480*time.Millisecond {
		t.Errorf("%d and %d access units", len(kept), len(alone))
	}
}

// A path of a Bond that is thought to carry little sends the whole programme, but into a queue.
func TestPathIsNotStarved(t *testing.T) {
	tracks := []media.Track{{Codec: media.H264, Bitrate: 1_000_000}}
	b := newBandwidth(Default().Bitrate, tracks)
	if got := b.pace(estimate{rate: 200_000}); got != 500_000 {
		t.Errorf("%d bit/s alone", got)
	}
	b.bonded = true
	if got := b.pace(estimate{rate: 200_000}); got < 1_000_000 {
		t.Errorf("%d bit/s", got)
	}
	if got := b.pace(estimate{rate: 200_000, full: true}); got != 200_000 {
		t.Errorf("%d bit/s into a queue", got)
	}
}

// What is left is for sound and video: whoever divides it knows the sound.
func TestShareLeavesTheSoundIn(t *testing.T) {
	var s share
	now := time.Now()
	if got := s.left(now, 1_000_000, 0, 0); got != 960_000 {
		t.Errorf("%d bit/s", got)
	}
	if got := s.left(now.Add(time.Second), 1_000_000, 0, 25_000); got != 768_000 {
		t.Errorf("%d bit/s beside repeats", got)
	}
}
