package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
)

// What OBS is set to: three layers, as in its settings' "Simulcast", by its x264, of a clip that it plays over and over.
var obsFiles = map[string]string{
	"global.ini": "[General]\nFirstRun=true\nLastVersion=536870912\n",
	"user.ini":   "[General]\nFirstRun=true\nConfirmOnExit=false\n[Basic]\nProfile=gantry\nProfileDir=gantry\nSceneCollection=gantry\nSceneCollectionFile=gantry\n",
	"basic/profiles/gantry/basic.ini": "[General]\nName=gantry\n[Output]\nMode=Simple\n[Stream1]\nWHIPSimulcastTotalLayers=3\n" +
		"[SimpleOutput]\nStreamEncoder=x264\nVBitrate=1200\nABitrate=96\nUseAdvanced=true\nPreset=ultrafast\n" +
		"x264Settings=tune=zerolatency bframes=0 keyint=60\n" +
		"[Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSCommon=30\n",
	"basic/profiles/gantry/service.json": `{"type": "whip_custom", "settings": {"service": "WHIP", "server": "SERVER", "bearer_token": "TOKEN"}}`,
	"basic/scenes/gantry.json": `{"name": "gantry", "current_scene": "Scene", "current_program_scene": "Scene", "scene_order": [{"name": "Scene"}], "sources": [
		{"id": "ffmpeg_source", "name": "clip", "mixers": 255, "volume": 1.0, "enabled": true,
			"settings": {"local_file": "/mnt/clip.mp4", "is_local_file": true, "looping": true, "hw_decode": false}},
		{"id": "scene", "name": "Scene", "enabled": true, "settings": {"id_counter": 1, "items": [
			{"name": "clip", "id": 1, "visible": true, "pos": {"x": 0.0, "y": 0.0}, "scale": {"x": 1.0, "y": 1.0}}]}}]}`,
}

// obsHome writes a home folder for OBS that streams to the server when it starts.
func obsHome(t *testing.T, server, token string) string {
	t.Helper()
	home := t.TempDir()
	for name, text := range obsFiles {
		path := filepath.Join(home, ".config/obs-studio", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text = strings.NewReplacer("SERVER", server, "TOKEN", token).Replace(text)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Output(t, "ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30",
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
		"-c:a", "aac", "-t", "5", filepath.Join(home, "clip.mp4"))
	return home
}

// layersOf returns the live video tracks of the relay's only stream as "rid WIDTHxHEIGHT", and how many publishers it has.
func layersOf(t *testing.T, base string) (layers []string, publishers int) {
	t.Helper()
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	res, err := client.Get(base + "/api/v1/streams")
	if err != nil {
		return nil, -1
	}
	defer func() { _ = res.Body.Close() }()
	var api struct {
		Streams []struct {
			Publishers []struct {
				Tracks []struct {
					Codec, RID             string
					Width, Height, Bitrate int
				}
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&api); err != nil {
		t.Fatal(err)
	}
	for _, stream := range api.Streams {
		for _, publisher := range stream.Publishers {
			publishers++
			for _, track := range publisher.Tracks {
				if track.Codec == "H264" && track.Bitrate > 0 {
					layers = append(layers, fmt.Sprintf("%s %dx%d", track.RID, track.Width, track.Height))
				}
			}
		}
	}
	return layers, publishers
}

// OBS Studio, without a screen, publishes its three layers with a token; a viewer gets the largest; SIGTERM to OBS ends the session.
func TestOBSPublishes(t *testing.T) {
	root := os.Getenv("GANTRY_OBS_ROOT")
	if root == "" {
		t.Skip("needs GANTRY_OBS_ROOT, a root folder with Xvfb and an OBS Studio that has its WHIP output")
	}
	const token = "obs-token-of-the-test"
	base := startRelayAt(t, testkit.Bin(t, "gantry-relay"), "--srt", "", "--rtmp", "", "--publish-token", token)
	command := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "testdata/obs.sh", root, obsHome(t, base+"/whip/obs", token))
	end, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	obs := testkit.StartCmd(t, command)

	var layers []string
	testkit.Eventually(t, 30*time.Second, "three layers", func() bool {
		layers, _ = layersOf(t, base)
		return len(layers) == 3
	})
	if want := []string{"0 640x360", "1 426x240", "2 212x120"}; !slices.Equal(layers, want) {
		t.Errorf("layers %q, want %q", layers, want)
	}

	// Joined now, with all layers measured, a viewer gets the largest.
	out := filepath.Join(t.TempDir(), "seen.h264")
	said, err := exec.Command(testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--frames", "90", "--timeout", "60s", "--out", out, base+"/whep/obs").CombinedOutput()
	if err != nil {
		t.Fatalf("the viewer: %v\n%s", err, said)
	}
	size := testkit.Output(t, "ffprobe", "-v", "error", "-show_entries", "stream=width,height,codec_name", "-of", "csv=p=0", out)
	if got := strings.TrimSpace(size); got != "h264,640,360" {
		t.Errorf("a viewer sees %s\n%s", got, said)
	}
	if err := end.Close(); err != nil { // SIGTERM to OBS
		t.Fatal(err)
	}
	if status := obs.Exits(20 * time.Second); status != 0 {
		t.Errorf("OBS exited with status %d", status)
	}
	if !strings.Contains(obs.Log(), "Successfully performed DELETE") {
		t.Error("OBS did not end its session")
	}
	testkit.Eventually(t, 5*time.Second, "the session's end", func() bool {
		_, publishers := layersOf(t, base)
		return publishers == 0
	})
}
