//go:build cgo && !nolibav

package libav

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gantry/encoder"
	"gantry/internal/testkit"
	"gantry/internal/testkit/encodertest"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func suite(t *testing.T, name string) encodertest.Suite {
	t.Helper()
	for _, b := range Backends() {
		if b.Name == name {
			return encodertest.Suite{Backend: b, FullColour: true, Scales: true}
		}
	}
	t.Fatalf("no back end %s", name)
	return encodertest.Suite{}
}

func TestX264(t *testing.T) { suite(t, "libx264").Run(t) }

func TestX265(t *testing.T) {
	s := suite(t, "libx265")
	s.Sibling, s.Ten = true, true
	s.Run(t)
}

// SVT-AV1 makes key frames on demand from FFmpeg 7.1 on; before, it is refused.
func TestSVTAV1(t *testing.T) {
	s := suite(t, "libsvtav1")
	if !usable(t, s.Backend) {
		return
	}
	s.Sibling, s.Ten, s.Least = true, true, 64
	s.Run(t)
}

// Encoders in chips: on a machine that has one, the whole suite runs on it. On others it is refused with a reason, after its
// options have been checked.
func TestHardware(t *testing.T) {
	for _, co := range hardware {
		t.Run(co.name, func(t *testing.T) {
			s := suite(t, co.name)
			if s.Ten = co.ten != 0; usable(t, s.Backend) {
				s.Run(t)
			}
		})
	}
}

// usable tells whether this machine has b; where not, Open must say why.
func usable(t *testing.T, b encoder.Backend) bool {
	t.Helper()
	in := encodertest.Format(640, 360, media.NV12)
	for _, profile := range []string{"", "main"} {
		e, err := b.Open(context.Background(), in, encoder.Params{Codec: b.Codec, Bitrate: 1_000_000, Profile: profile})
		if err == nil {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			return true
		}
		t.Log(err)
		if !errors.Is(err, encoder.ErrUnavailable) {
			t.Errorf("not called unavailable: %v", err)
		}
		reason := strings.TrimPrefix(err.Error(), "open "+b.Name+": ")
		if len(reason) < len(encoder.ErrUnavailable.Error())+10 || badValue(err) {
			t.Errorf("no reason to act on, or an option's value is wrong: %v", err)
		}
	}
	return false
}

// badValue tells whether FFmpeg did not understand an option's value.
func badValue(err error) bool {
	return strings.Contains(err.Error(), "pars") || strings.Contains(err.Error(), "out of range")
}

// Each option is one that the encoder has, wherever this FFmpeg has the encoder: that needs no chip.
func TestOptionsExist(t *testing.T) {
	in := encodertest.Format(640, 360, media.NV12)
	for _, co := range coders {
		if !exists(co.name) {
			t.Logf("%s is not in this FFmpeg", co.name)
			continue
		}
		for _, preset := range append(co.presets, "") {
			for _, profile := range append(co.profiles, "") {
				if preset != "" && profile != "" {
					continue
				}
				e, err := open(&co, in, encoder.Params{Codec: co.codec, Bitrate: 1_000_000, Preset: preset, Profile: profile})
				if err == nil {
					err = e.Close()
				}
				if err != nil && (!errors.Is(err, encoder.ErrUnavailable) || badValue(err)) {
					t.Errorf("preset %q, profile %q: %v", preset, profile, err)
				}
			}
		}
		odd := co
		odd.least = 0
		odd.options = func(p encoder.Params, r media.Rational) []option {
			return append(co.options(p, r), option{"no_such_option", "1"})
		}
		if _, err := open(&odd, in, encoder.Params{Bitrate: 1_000_000}); err == nil || !strings.Contains(err.Error(), `no option "no_such_option"`) {
			t.Errorf("%s with an option that it has not: %v", co.name, err)
		}
	}
}
