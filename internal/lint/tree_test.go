package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// root is the top of this checkout; tests run in their package's folder.
const root = "../.."

// A file is one Go source file, parsed, whatever its build tags.
type file struct {
	dir, path string // relative to root, with slashes
	test      bool
	syntax    *ast.File
	lines     int
}

func (f *file) imports() map[string]token.Pos {
	all := map[string]token.Pos{}
	for _, spec := range f.syntax.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		all[path] = spec.Pos()
	}
	return all
}

var fset = token.NewFileSet()

// at returns "path:line" of a position.
func at(pos token.Pos) string {
	p := fset.Position(pos)
	path, err := filepath.Rel(root, p.Filename)
	if err != nil {
		path = p.Filename
	}
	return path + ":" + strconv.Itoa(p.Line)
}

// walk calls fn for each file of the tree that is, or could be, committed.
func walk(t *testing.T, fn func(path string, d fs.DirEntry)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		switch rel = filepath.ToSlash(rel); {
		case rel == ".git", rel == "bin", rel == "dist", strings.HasPrefix(d.Name(), ".cache"):
			if d.IsDir() {
				return filepath.SkipDir
			}
		case !d.IsDir():
			fn(rel, d)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	parseOnce sync.Once
	parsed    []*file
)

// goFiles returns all Go files of the tree.
func goFiles(t *testing.T) []*file {
	t.Helper()
	parseOnce.Do(func() {
		walk(t, func(path string, d fs.DirEntry) {
			if !strings.HasSuffix(path, ".go") || strings.Contains(path, "testdata/") {
				return
			}
			src, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Error(err)
				return
			}
			syntax, err := parser.ParseFile(fset, filepath.Join(root, path), src, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				return
			}
			parsed = append(parsed, &file{
				dir: filepath.ToSlash(filepath.Dir(path)), path: path, test: strings.HasSuffix(path, "_test.go"),
				syntax: syntax, lines: strings.Count(string(src), "\n"),
			})
		})
	})
	if len(parsed) == 0 {
		t.Fatal("no Go files found")
	}
	return parsed
}

// product returns the files that end up in a binary: no tests and nothing that serves them alone.
func product(t *testing.T) []*file {
	t.Helper()
	var all []*file
	for _, f := range goFiles(t) {
		served := slices.ContainsFunc([]string{"internal/testkit", "internal/lint", "internal/bench", "scripts"}, func(dir string) bool {
			return under(f.dir, dir)
		})
		if !f.test && !served {
			all = append(all, f)
		}
	}
	return all
}

// byDir groups files by folder.
func byDir(files []*file) map[string][]*file {
	all := map[string][]*file{}
	for _, f := range files {
		all[f.dir] = append(all[f.dir], f)
	}
	return all
}

// under reports whether a folder is dir or in it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
