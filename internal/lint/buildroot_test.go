package lint

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The Buildroot tree as far as it can be checked without Buildroot: its form, and that all it names is there.
func TestBuildrootTree(t *testing.T) {
	const dir = root + "/buildroot"
	read := func(path string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if desc := read("external.desc"); !regexp.MustCompile(`(?s)^name: GANTRY\ndesc: .+\n$`).MatchString(desc) {
		t.Errorf("external.desc: %q", desc)
	}

	config := read("package/gantry/Config.in")
	defined := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^config (BR2_PACKAGE_GANTRY\w*)$`).FindAllStringSubmatch(config, -1) {
		defined[m[1]] = true
	}
	if n, m := strings.Count(config, "\nif "), strings.Count(config, "\nendif"); n != m || len(defined) < 2 {
		t.Errorf("package/gantry/Config.in: %d if, %d endif, symbols %v", n, m, defined)
	}

	external := regexp.MustCompile(`\$\(?BR2_EXTERNAL_GANTRY_PATH\)?/([\w./*-]+)`)
	used := regexp.MustCompile(`BR2_PACKAGE_GANTRY\w*`)
	line := regexp.MustCompile(`^(#.*|BR2_\w+=(y|"[^"]*")|)$`)
	configs, _ := filepath.Glob(dir + "/configs/*_defconfig")
	if len(configs) == 0 {
		t.Error("no defconfig")
	}
	files := []string{"Config.in", "external.mk", "package/gantry/gantry.mk"}
	for _, c := range configs {
		rel, _ := filepath.Rel(dir, c)
		files = append(files, rel)
		for n, l := range strings.Split(read(rel), "\n") {
			if !line.MatchString(l) {
				t.Errorf("%s:%d: %q is no line of a defconfig", rel, n+1, l)
			}
		}
	}
	for _, file := range files {
		text := read(file)
		for _, m := range external.FindAllStringSubmatch(text, -1) {
			if found, _ := filepath.Glob(filepath.Join(dir, m[1])); len(found) == 0 {
				t.Errorf("%s names %s, which is not there", file, m[1])
			}
		}
		for _, symbol := range used.FindAllString(text, -1) {
			if !defined[symbol] {
				t.Errorf("%s uses %s, which package/gantry/Config.in does not define", file, symbol)
			}
		}
	}

	// make itself reads the package, with the infrastructure's macro left empty, and says what it would build and install.
	path, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "read.mk")
	if err := os.WriteFile(script, []byte("golang-package :=\ninclude "+path+"/package/gantry/gantry.mk\n"+
		"all: ; @echo '$(GANTRY_BUILD_TARGETS)|$(GANTRY_SITE_METHOD)|$(GANTRY_SOURCE)|$(GANTRY_TAGS)'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("make", "-s", "-f", script, "BR2_EXTERNAL_GANTRY_PATH="+path, "BR2_PACKAGE_GANTRY_RELAY=y").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	parts := strings.Split(strings.TrimSpace(string(out)), "|")
	if len(parts) != 4 || parts[1] != "file" || !strings.HasPrefix(parts[2], "gantry-") || parts[3] != "nolibav" {
		t.Errorf("gantry.mk gives %q", parts)
	}
	if targets := strings.Fields(parts[0]); len(targets) != 2 {
		t.Errorf("gantry.mk builds %q, want both daemons", targets)
	}
	for _, m := range regexp.MustCompile(`\$\(@D\)/([\w./-]+)`).FindAllStringSubmatch(read("package/gantry/gantry.mk"), -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("gantry.mk installs %s, which is not in the source", m[1])
		}
	}
}
