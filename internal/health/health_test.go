package health

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var (
	noSignal   = Warnable{"no-signal", Failing, 2 * time.Second}
	uplinkDown = Warnable{"uplink-down", Degraded, 0}
	refused    = Warnable{"uplink-refused", Broken, 0}
)

func TestConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		text := func() string {
			b, err := json.Marshal(s.Conditions())
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if got := text(); got != "[]" {
			t.Errorf("healthy: %s", got)
		}
		s.Raise(noSignal, "/dev/video0", "nothing is connected")
		if got := text(); got != "[]" {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(2 * time.Second)
		s.Raise(noSignal, "/dev/video0", "no lock") // still the same condition
		s.Set(uplinkDown, "relay", errors.New("connection refused"))
		s.Raise(refused, "other", "wrong token")
		const want = `[{"code":"uplink-refused","subject":"other","severity":"broken","reason":"wrong token","since":"2000-01-01T00:00:02Z"},` +
			`{"code":"no-signal","subject":"/dev/video0","severity":"failing","reason":"no lock","since":"2000-01-01T00:00:00Z"},` +
			`{"code":"uplink-down","subject":"relay","severity":"degraded","reason":"connection refused","since":"2000-01-01T00:00:02Z"}]`
		if got := text(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		var back []Condition
		if err := json.Unmarshal([]byte(text()), &back); err != nil || !slices.Equal(back, s.Conditions()) {
			t.Errorf("read back %v %v", back, err)
		}
		s.Clear(noSignal, "/dev/video0")
		s.Set(uplinkDown, "relay", nil)
		s.Clear(refused, "another")
		if list := s.Conditions(); len(list) != 1 || list[0].Code != "uplink-refused" {
			t.Errorf("left %v", list)
		}
	})
}

func FuzzSeverity(f *testing.F) {
	f.Add("degraded")
	f.Fuzz(func(t *testing.T, text string) {
		var s Severity
		if err := s.UnmarshalText([]byte(text)); err == nil && s.String() != text {
			t.Fatalf("%q became %v", text, s)
		}
	})
}
