package media_test

import (
	"testing"

	"gantry/media"
)

func TestFeedbackMerges(t *testing.T) {
	key := func(tracks uint64) media.Feedback { return media.Feedback{KeyFrame: true, Tracks: tracks} }
	for _, c := range []struct{ a, b, want media.Feedback }{
		{key(1), key(4), key(5)},
		{key(1), key(0), key(0)},
		{key(0), key(2), key(0)},
		{media.Feedback{}, key(2), key(2)},
		{key(2), media.Feedback{Bitrate: 7}, media.Feedback{KeyFrame: true, Tracks: 2, Bitrate: 7}},
	} {
		if got := c.a.Merge(c.b); got != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.a, c.b, got, c.want)
		}
	}
}
