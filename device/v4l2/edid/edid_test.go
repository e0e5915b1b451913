package edid

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestPresets(t *testing.T) {
	for name, want := range map[string]struct {
		mode  string
		clock int // kHz
	}{"1080p60": {"1920x1080p60", 150000}, "1080p30": {"1920x1080p30", 75000}, "720p60": {"1280x720p60", 75000}, "4K30": {"3840x2160p30", 300000}} {
		data, ok := Preset(name)
		if !ok || len(data) != 2*BlockSize {
			t.Fatalf("%s: %d bytes, %v", name, len(data), ok)
		}
		info, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if info.Vendor != "GNT" || info.Modes[0].String() != want.mode || !info.HDMI || info.MaxClock != want.clock {
			t.Errorf("%s: %+v", name, info)
		}
		if info.Name != "Gantry"+name {
			t.Errorf("%s is named %q", name, info.Name)
		}
		if len(info.VICs) != len(presets[name]) {
			t.Errorf("%s: modes %v, want %v", name, info.VICs, presets[name])
		}
		for _, m := range info.Modes {
			if m.Clock > info.MaxClock {
				t.Errorf("%s: %v needs %d kHz of %d", name, m, m.Clock, info.MaxClock)
			}
		}
	}
	if len(Presets()) != 4 {
		t.Errorf("presets %v", Presets())
	}
	if _, ok := Preset("1080p61"); ok {
		t.Error("1080p61 is a preset")
	}
}

// The tool that kernel developers check EDIDs with finds nothing to fail.
func TestEdidDecodeAgrees(t *testing.T) {
	tool, err := exec.LookPath("edid-decode")
	if err != nil {
		t.Fatal(err, "; apt-get install edid-decode")
	}
	for _, name := range Presets() {
		data, _ := Preset(name)
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), tool, "--check", file).CombinedOutput()
		text := string(out)
		if err != nil || !strings.Contains(text, "EDID conformity: PASS") || strings.Contains(text, "Warnings:") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

func TestCheck(t *testing.T) {
	good, _ := Preset("720p60")
	for _, c := range []struct {
		name   string
		change func(d []byte) []byte
		want   string
	}{
		{"empty", func(d []byte) []byte { return nil }, "whole blocks"},
		{"cut", func(d []byte) []byte { return d[:200] }, "whole blocks"},
		{"header", func(d []byte) []byte { d[0] = 1; return d }, "begin with"},
		{"one block only", func(d []byte) []byte { return d[:128] }, "announces 1 more blocks, 0 follow"},
		{"checksum", func(d []byte) []byte { d[130]++; return d }, "block 1: checksum"},
	} {
		if err := Check(c.change(bytes.Clone(good))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if err := Check(good); err != nil {
		t.Error(err)
	}
}

// A timing survives writing and reading.
func TestDetailedRoundTrip(t *testing.T) {
	for vic, m := range cta {
		if m.HFront >= 1024 {
			continue // ten bits; those modes have a VIC only
		}
		var d [18]byte
		detailed(d[:], m)
		got := readDetailed(d[:])
		got.VIC = vic
		want := m
		want.Clock = m.Clock / 10 * 10
		if got != want {
			t.Errorf("wrote %+v, read %+v", want, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Presets() {
		data, _ := Preset(name)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		if len(data)%BlockSize == 0 && len(data) >= BlockSize && len(data) <= 4*BlockSize { // let it past the checksums
			copy(data, header)
			data[126] = byte(len(data)/BlockSize - 1)
			for at := 0; at < len(data); at += BlockSize {
				data[at+BlockSize-1] -= sum(data[at : at+BlockSize])
			}
		}
		info, err := Parse(data)
		if (err == nil) != (Check(data) == nil) {
			t.Errorf("Parse: %v, Check disagrees", err)
		}
		if err == nil && info.String() == "" {
			t.Error("nothing to say")
		}
	})
}
