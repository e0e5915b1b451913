package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gantry/encoder"
	"gantry/internal/pipeline"
	"gantry/media"
)

func trialOf(width int) encoder.Trial {
	return encoder.Trial{Format: media.VideoFormat{Width: width, Height: 720, FourCC: media.YU12, Rate: media.Rational{Num: 30, Den: 1}},
		Params: encoder.Params{Codec: media.H264, Bitrate: 1_000_000}}
}

func named(names ...string) (list []encoder.Backend) {
	for _, n := range names {
		list = append(list, encoder.Backend{Name: n, Codec: media.H264})
	}
	return list
}

// What was found out is known at the next start, for the same trial on the same machine with the same back ends alone.
func TestMemory(t *testing.T) {
	m := memory{dir: t.TempDir(), machine: "this"}
	have := named("chip", "soft", "other")
	if got := m.ranked(trialOf(1280), have); got != nil {
		t.Errorf("%v out of nothing", got)
	}
	for _, width := range []int{1280, 640} {
		if err := m.remember(trialOf(width), []string{"soft", "chip"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.ranked(trialOf(1280), have); !slices.Equal(got, []string{"soft", "chip"}) {
		t.Errorf("remembered %v", got)
	}
	faster := trialOf(1280)
	faster.Format.Rate.Num = 60
	if got := m.ranked(faster, have); got != nil {
		t.Errorf("another rate: %v", got)
	}
	if got := m.ranked(trialOf(1280), named("chip")); got != nil {
		t.Errorf("an encoder that this build has not: %v", got)
	}
	if got := (memory{dir: m.dir, machine: "another"}).ranked(trialOf(1280), have); got != nil {
		t.Errorf("another machine: %v", got)
	}
	file := filepath.Join(m.dir, memoryFile)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{nil, whole[:len(whole)/2], []byte("[]"), []byte(`{"issue":1,"machine":"this"}`), []byte(`{"issue":1,"machine":"this","trials":{"x":[]}}`)} {
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.ranked(trialOf(1280), have); got != nil {
			t.Errorf("%q: %v", damaged, got)
		}
	}
	if err := m.remember(trialOf(1280), []string{"chip"}); err != nil {
		t.Errorf("over a damaged file: %v", err)
	}
	for width := range 2 * mostTrials {
		if err := m.remember(trialOf(width), []string{"chip"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.read().Trials); n > mostTrials {
		t.Errorf("%d trials kept", n)
	}
	if err := (memory{dir: "/no/such/place", machine: "x"}).remember(trialOf(1), nil); err == nil {
		t.Error("written nowhere")
	}
}

func FuzzNotebook(f *testing.F) {
	f.Add([]byte(`{"issue":1,"machine":"m","trials":{"a":["b"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := parseNotebook(data, notebook{Issue: 1, Machine: "m", Trials: map[string][]string{}}); n.Trials == nil || n.Machine != "m" {
			t.Fatalf("%+v", n)
		}
	})
}

func TestLibraries(t *testing.T) {
	const text = `55d0-55d1 r-xp 00000000 08:01 123 /usr/bin/gantryd
7f10-7f11 r--p 00000000 08:01 124                    /usr/lib/x86_64-linux-gnu/libx264.so.164
7f11-7f12 r-xp 00000000 08:01 124                    /usr/lib/x86_64-linux-gnu/libx264.so.164
7f20-7f21 r--p 00000000 08:01 125                    /lib/ld.so
7ffe-7fff rw-p 00000000 00:00 0                      [stack]
`
	if got := libraries(text); !slices.Equal(got, []string{"/lib/ld.so", "/usr/lib/x86_64-linux-gnu/libx264.so.164"}) {
		t.Errorf("%q", got)
	}
	if a, b := machineID(), machineID(); a != b {
		t.Error("this machine has two names")
	}
}

// The first that works goes on the air; the rest are tried later and added, and the next start knows them all.
func TestRankingInTwoSteps(t *testing.T) {
	s := spec(defaults(), slog.New(slog.DiscardHandler))
	if len(s.Encoder.Backends) < 2 || decoder() == nil {
		t.Skip("a build with one encoder has nothing to rank")
	}
	m := memory{dir: t.TempDir(), machine: "this"}
	r := newRanking(m, slog.New(slog.DiscardHandler))
	first := s
	r.first(context.Background(), &first)
	if len(first.Encoder.Backends) != 1 {
		t.Fatalf("on the air with %v", namesOf(first.Encoder.Backends))
	}
	best := first.Encoder.Backends[0].Name
	if m.ranked(r.left[0].trial, s.Encoder.Backends) != nil {
		t.Error("remembered before all were tried")
	}
	all := s
	if r.rest(context.Background()) {
		r.apply(&all)
	} else {
		all = first
	}
	if names := namesOf(all.Encoder.Backends); names[0] != best || !slices.Contains(names, "openh264") {
		t.Errorf("in the end %v", names)
	}
	again := newRanking(m, slog.New(slog.DiscardHandler))
	known := pipeline.Spec{Video: s.Video, Encoder: s.Encoder}
	again.first(context.Background(), &known)
	if !slices.Equal(namesOf(known.Encoder.Backends), namesOf(all.Encoder.Backends)) || again.left != nil {
		t.Errorf("the next start takes %v, and tries %d more", namesOf(known.Encoder.Backends), len(again.left))
	}
}
