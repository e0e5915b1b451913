// Package egress is what the servers that write whole access units share. Its sub-packages are the servers.
package egress

import (
	"errors"
	"slices"

	"gantry/media"
	"gantry/relay"
)

// Subscribe asks for access units with AAC, which every receiver of MPEG-TS and HLS knows, or else, where this relay cannot make
// AAC, for the sound as it is published.
func Subscribe(hub *relay.Hub, stream string) (*relay.Subscription, error) {
	sub, err := hub.Subscribe(stream, relay.Want{Audio: media.AAC})
	if errors.Is(err, relay.ErrPacking) { // sound alone
		return hub.Subscribe(stream, relay.Want{})
	}
	if err == nil && slices.ContainsFunc(sub.Tracks(), func(t media.Track) bool { return t.Codec.Audio() && t.Codec != media.AAC }) {
		_ = sub.Close()
		return hub.Subscribe(stream, relay.Want{})
	}
	return sub, err
}

// Choose returns the tracks that a receiver of one picture gets, and for each of the stream's which of them it is; -1: it is left
// out. Of several renditions it is the largest in H.264, which every receiver takes, or else the largest.
func Choose(all []media.Track) (chosen []media.Track, places []int) {
	best := -1
	better := func(a, b media.Track) bool {
		if (a.Codec == media.H264) != (b.Codec == media.H264) {
			return a.Codec == media.H264
		}
		return a.Width*a.Height > b.Width*b.Height
	}
	for i, t := range all {
		if t.Codec.Video() && t.Packing == media.AccessUnits && (best < 0 || better(t, all[best])) {
			best = i
		}
	}
	for i, t := range all {
		if i != best && !t.Codec.Audio() || t.Packing != media.AccessUnits {
			places = append(places, -1)
			continue
		}
		t.RID = ""
		places = append(places, len(chosen))
		chosen = append(chosen, t)
	}
	return chosen, places
}
