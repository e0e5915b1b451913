package whep_test

import (
	"testing"
	"time"

	"github.com/pion/rtcp"

	"gantry/internal/testkit"
)

// A new viewer soon has several reports of each track, which browsers want before they bring sound and picture together. Each is
// of its own track's capture, whatever the other's is.
func TestFirstReports(t *testing.T) {
	t.Parallel()
	const apart = 80 * time.Millisecond
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	p.pub.Sync(1, 0, p.start.Add(apart))
	c := b.play(t, "demo", clientOptions{})
	bySSRC := map[uint32][]*rtcp.SenderReport{}
	testkit.Eventually(t, 10*time.Second, "five reports of each track", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		clear(bySSRC)
		for _, r := range c.reports {
			bySSRC[r.SSRC] = append(bySSRC[r.SSRC], r)
		}
		few := len(bySSRC) < 2
		for _, all := range bySSRC {
			few = few || len(all) < 5
		}
		return !few
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	zero := func(ssrc uint32, ts uint32, rate int64) time.Time { // what the newest report says of when RTP time ts was captured
		all := bySSRC[ssrc]
		r := all[len(all)-1]
		return fromNTP(r.NTPTime).Add(time.Duration(int64(int32(ts-r.RTPTime)) * int64(time.Second) / rate))
	}
	for ssrc, all := range bySSRC {
		if took := fromNTP(all[4].NTPTime).Sub(fromNTP(all[0].NTPTime)); took > 3*time.Second {
			t.Errorf("five reports of track %08x take %v", ssrc, took)
		}
	}
	// A picture and the sound with it are written at one PTS: any pair tells the distance, up to whole pictures.
	video, audio := c.video[len(c.video)-1], c.audio[len(c.audio)-1]
	const picture = time.Second / 30
	off := zero(audio.SSRC, audio.Timestamp, 48000).Sub(zero(video.SSRC, video.Timestamp, 90000)) - apart
	if off -= off.Round(picture); off.Abs() > 2*time.Millisecond {
		t.Errorf("by its reports, the sound lies %v beside where it was captured", off)
	}
}
