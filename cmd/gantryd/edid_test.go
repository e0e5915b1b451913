package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/device/v4l2/edid"
)

func TestEDIDCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "edid.bin")
	data, _ := edid.Preset("1080p30")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.bin")
	data[200]++
	if err := os.WriteFile(bad, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"edid --help", exitOK, "gantryd edid set DEVICE PRESET|FILE"},
		{"edid presets", exitOK, `4K30: GNT "Gantry4K30", HDMI, prefers 3840x2160p30`},
		{"edid show 720p60", exitOK, "prefers 1280x720p60"},
		{"edid show " + file, exitOK, "prefers 1920x1080p30"},
		{"edid show " + bad, exitError, "block 1: checksum"},
		{"edid set /dev/null 1080p60", exitError, "no video device"},
		{"edid set /dev/video99 " + bad, exitError, "block 1: checksum"},
		{"edid clear /dev/video99", exitError, "no such device"},
		{"edid get name:nothing -", exitError, "no such device: name:nothing"},
		{"edid", exitUsage, "edid --help"},
		{"edid set /dev/video0", exitUsage, "edid --help"},
		{"edid --input x presets", exitUsage, "invalid value"},
	} {
		code, stdout, stderr := command(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%s: status %d, %s%s, want %d and %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}
