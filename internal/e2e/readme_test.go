package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gantry/internal/testkit"
)

// What the README and the image tell people to write, gantryd takes.
func TestConfigurationsInTheTree(t *testing.T) {
	root := testkit.Root(t)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) == 0 {
		t.Error("the README shows no configuration")
	}
	files := []string{filepath.Join(root, "buildroot/board/gantry/overlay/etc/gantry/gantryd.yaml")}
	for _, b := range blocks {
		path := filepath.Join(t.TempDir(), "readme.yaml")
		if err := os.WriteFile(path, []byte(b[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	for _, file := range files {
		if out, err := exec.Command(testkit.Bin(t, "gantryd"), "check", file).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, strings.TrimSpace(string(out)))
		}
	}
}

// What the README says the two daemons are called with, they know.
func TestHelp(t *testing.T) {
	for name, words := range map[string][]string{
		"gantryd":      {"--config", "check", "probe", "--json"},
		"gantry-relay": {"--http", "--rtc", "GANTRY_PUBLISH_TOKEN", "/whip/", "/whep/", "/play/", "/api/v1/streams", "/metrics", "/healthz"},
	} {
		help := testkit.Output(t, testkit.Bin(t, name), "--help")
		for _, word := range words {
			if !strings.Contains(help, word) {
				t.Errorf("%s --help does not mention %s", name, word)
			}
		}
	}
}
