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
