// Package sysfs makes a /sys for tests from a text that can be read and checked in: one file a line, "path = content", one link
// "path -> target", "#" for comments. Dump writes one of a running machine.
//
// It knows nothing of what the files mean.
package sysfs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Load reads a file. The returned tree begins at the root, so that its paths begin with "sys/".
func Load(t testing.TB, file string) fstest.MapFS {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return m
}

func parse(text []byte) (fstest.MapFS, error) {
	m := fstest.MapFS{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		if at, to, ok := strings.Cut(line, " -> "); ok {
			m[at] = &fstest.MapFile{Mode: 0o777 | fs.ModeSymlink, Data: []byte(to)}
		} else if at, content, ok := strings.Cut(line, " = "); ok {
			m[at] = &fstest.MapFile{Data: []byte(content + "\n")}
		} else {
			return nil, fmt.Errorf("what is %q?", line)
		}
	}
	return m, lines.Err()
}

// files are those that are worth a line.
var files = []string{"id", "name", "idVendor", "idProduct", "serial", "manufacturer", "product", "speed", "version", "removable"}

// Dump writes what a tree says of the devices of some classes and of the devices that they are on.
func Dump(w io.Writer, root fs.FS, classes ...string) error {
	lines := map[string]bool{}
	for _, class := range classes {
		dir := "sys/class/" + class
		entries, err := fs.ReadDir(root, dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			to, err := fs.ReadLink(root, dir+"/"+e.Name())
			if err != nil {
				continue
			}
			lines[dir+"/"+e.Name()+" -> "+to] = true
			for at := path.Join(dir, to); strings.HasPrefix(at, "sys/devices/"); at = path.Dir(at) {
				for _, f := range files {
					if text, err := fs.ReadFile(root, at+"/"+f); err == nil && len(bytes.TrimSpace(text)) > 0 {
						lines[at+"/"+f+" = "+strings.TrimSpace(string(text))] = true
					}
				}
			}
		}
	}
	sorted := make([]string, 0, len(lines))
	for l := range lines {
		sorted = append(sorted, l)
	}
	slices.Sort(sorted)
	for _, l := range sorted {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}
