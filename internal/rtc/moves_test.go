package rtc

import (
	"testing"
	"time"
)

func TestMoves(t *testing.T) {
	const here, there, elsewhere = "198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3"
	t0 := time.Unix(0, 0)
	type check struct {
		at       time.Duration
		from     string // "": from the selected address, which the agent does not see
		answered bool
		moves    bool
	}
	s, ms := time.Second, time.Millisecond
	for name, checks := range map[string][]check{
		"a rebound NAT":             {{10 * s, "", true, false}, {12 * s, there, true, false}, {14 * s, there, true, true}, {16 * s, there, true, false}},
		"and again":                 {{12 * s, there, true, false}, {14 * s, there, true, true}, {15 * s, "", true, false}, {16 * s, elsewhere, true, false}, {18 * s, elsewhere, true, true}},
		"back to the first address": {{12 * s, there, true, false}, {13 * s, there, true, true}, {14 * s, here, true, false}, {15 * s, here, true, true}},
		"a spare path":              {{10 * s, "", true, false}, {11 * s, there, true, false}, {12 * s, "", true, false}, {13 * s, there, true, false}},
		"two spare paths":           {{10 * s, there, true, false}, {11 * s, elsewhere, true, false}, {12 * s, there, true, false}},
		"nothing gets there":        {{10 * s, there, false, false}, {11 * s, there, false, false}, {12 * s, there, true, true}},
		"pairs are tried out":       {{10 * ms, there, true, false}, {30 * ms, there, true, false}, {50 * ms, there, true, false}},
	} {
		var m moves
		m.selected(t0)
		for i, c := range checks {
			if c.from == "" {
				m.stays()
			} else if got := m.check(t0.Add(c.at), c.from, c.answered); got != c.moves {
				t.Errorf("%s: check %d: moves %v", name, i, got)
			}
		}
	}
	if m := (moves{}); m.check(t0, there, true) || m.check(t0.Add(time.Hour), there, true) {
		t.Error("moves before anything was selected")
	}
}
