package main

import (
	"errors"
	"fmt"
	"slices"

	"gantry/uplink/record"
)

// checkHeals checks that what is to be healed can be: by a recording of what goes out to the relay.
func checkHeals(uplinks []uplinkConfig) (errs []error) {
	for i, u := range uplinks {
		if u.Heal == nil {
			continue
		}
		bad := func(key string, err error) { errs = append(errs, fmt.Errorf("uplinks[%d].heal.%s: %w", i, key, err)) }
		live := slices.IndexFunc(uplinks, func(o uplinkConfig) bool { return o.Name == u.Heal.Uplink })
		if live < 0 {
			bad("uplink", fmt.Errorf("there is no destination %q", u.Heal.Uplink))
			continue
		}
		from := slices.IndexFunc(uplinks, func(o uplinkConfig) bool { return o.Record != nil && u.Heal.SameDir(o.Record.Dir) })
		switch {
		case from < 0:
			bad("dir", errors.New("no destination records into it"))
		case uplinks[live].WHIP != nil && uplinks[from].Record.Sound != record.Opus:
			bad("dir", fmt.Errorf("what goes out has Opus, and the recording AAC: %q needs sound: opus", uplinks[from].Name))
		case uplinks[live].Rendition != uplinks[from].Rendition:
			bad("dir", fmt.Errorf("%q and %q get different renditions", uplinks[from].Name, uplinks[live].Name))
		}
	}
	return errs
}
