package lint

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tree says what Gantry is and why; nothing in it depends on, or speaks of, the place and tools it was written with.
func TestWords(t *testing.T) {
	banned := []struct{ pattern, why string }{
		{`/wor` + `k/[a-z]`, "a path of one machine"},
		{`/ho` + `me/[a-z]`, "a path of one machine"},
		{`shar` + `ed/reference`, "a path outside the tree"},
		{`(proxy|sum)\.gola` + `ng\.org|registry\.np` + `mjs\.org|py` + `pi\.org|deb\.deb` + `ian\.org|snapshot\.deb` + `ian\.org`,
			"a package registry: which one a machine uses is its own setting"},
		{`(?i)\b(cla` + `ude|anthro` + `pic|chat` + `gpt|open` + `ai|co` + `pilot|ll` + `ms?)\b`, "a tool, not the project"},
		{`\bA` + `I\b`, "a tool, not the project"},
		{`(?i)\b(fix` + `me|xx` + `x)\b`, "mend it, or open an issue"},
	}
	for i := range banned {
		re := regexp.MustCompile(banned[i].pattern)
		walk(t, func(path string, d fs.DirEntry) {
			data, err := os.ReadFile(filepath.Join(root, path))
			if err != nil || bytes.IndexByte(data, 0) >= 0 {
				return // gone meanwhile, or no text
			}
			if strings.HasPrefix(path, "LICENSE") || path == "go.sum" {
				return
			}
			for n, line := range strings.Split(string(data), "\n") {
				if m := re.FindString(line); m != "" {
					t.Errorf("%s:%d: %q: %s", path, n+1, m, banned[i].why)
				}
			}
		})
	}
}

// A dependency is a promise to follow somebody else's releases, so each has its reason on record.
func TestDependenciesAreExplained(t *testing.T) {
	mod, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(root + "/docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	required := regexp.MustCompile(`^\s*(?:require\s+|tool\s+)?([a-z0-9.-]+\.[a-z]+/\S+)(?:\s+v\S+)?$`)
	for _, line := range strings.Split(string(mod), "\n") {
		m := required.FindStringSubmatch(line)
		if m == nil {
			continue // among them each "// indirect"
		}
		direct++
		if !regexp.MustCompile(`(?m)^\|.*` + "`" + regexp.QuoteMeta(m[1]) + "`").Match(doc) {
			t.Errorf("docs/dependencies.md has no line for %s: what for, why this one, what else was looked at", m[1])
		}
	}
	if direct < 5 {
		t.Errorf("read only %d direct dependencies from go.mod", direct)
	}
}

// A page that points nowhere is worse than none.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	walk(t, func(path string, d fs.DirEntry) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	})
}
