package lint

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gantry/internal/metrics"
)

// One package doc a folder says what it owns and what it refuses to know; a second one, or none, says nothing.
func TestPackageDocs(t *testing.T) {
	for dir, files := range byDir(goFiles(t)) {
		var docs []string
		name := ""
		for _, f := range files {
			if f.test {
				continue
			}
			name = f.syntax.Name.Name
			if f.syntax.Doc == nil {
				continue
			}
			docs = append(docs, f.path)
			want := "Package " + name
			if name == "main" {
				want = "Command " + dir[strings.LastIndexByte(dir, '/')+1:]
			}
			if text := f.syntax.Doc.Text(); !strings.HasPrefix(text, want+" ") {
				t.Errorf("%s: the package doc does not begin with %q", at(f.syntax.Doc.Pos()), want)
			}
		}
		if name != "" && len(docs) != 1 {
			t.Errorf("%s: %d package docs %v, want one", dir, len(docs), docs)
		}
	}
}

// A name that fits everything says nothing, and attracts everything.
func TestNames(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "manager", "base", "misc", "shared", "types", "lib"}
	for dir, files := range byDir(goFiles(t)) {
		for _, part := range append(strings.Split(dir, "/"), strings.TrimSuffix(files[0].syntax.Name.Name, "_test")) {
			if slices.Contains(empty, part) {
				t.Errorf("%s: a package called %s; name it after what it holds", dir, part)
			}
		}
	}
	for _, f := range product(t) {
		for _, decl := range f.syntax.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				name := spec.(*ast.TypeSpec).Name
				if strings.HasSuffix(name.Name, "Manager") || strings.HasSuffix(name.Name, "Helper") || strings.HasPrefix(name.Name, "Base") {
					t.Errorf("%s: a type called %s; name it after its role", at(name.Pos()), name.Name)
				}
			}
		}
	}
}

// A file past 600 lines or a struct past about 15 fields is two things. What mirrors something outside is as large as that is:
// the kernel's structs, and the keys of a configuration file.
func TestSizes(t *testing.T) {
	const maxLines, maxFields = 600, 16
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		if f.lines > maxLines {
			t.Errorf("%s: %d lines, want at most %d", f.path, f.lines, maxLines)
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			s, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			fields, outside := 0, under(f.dir, "internal/v4l2/uapi")
			for _, field := range s.Fields.List {
				fields += max(1, len(field.Names))
				outside = outside || field.Tag != nil && strings.Contains(field.Tag.Value, "yaml:")
			}
			if fields > maxFields && !outside {

				t.Errorf("%s: a struct of %d fields, want at most %d: some of them belong together", at(s.Pos()), fields, maxFields)
			}
			return true
		})
	}
}

// What others may call, they can read about without its source.
func TestExportedDocs(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.syntax.Name.Name == "main" {
			continue
		}
		for _, decl := range f.syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() && d.Doc == nil {
					t.Errorf("%s: func %s has no doc comment", at(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
						t.Errorf("%s: type %s has no doc comment", at(s.Pos()), s.Name.Name)
					}
				}
			}
		}
	}
}

// Calls that have a better place or form.
func TestCalls(t *testing.T) {
	banned := map[string]string{
		"time.Sleep":              "cannot be cancelled: select on a timer and ctx",
		"slog.Default":            "the logger is injected",
		"slog.SetDefault":         "the logger is injected",
		"slog.Debug":              "the logger is injected: log.Debug",
		"slog.Info":               "the logger is injected: log.Info",
		"slog.Warn":               "the logger is injected: log.Warn",
		"slog.Error":              "the logger is injected: log.Error",
		"http.ListenAndServe":     "cannot be stopped and has no time-outs: an http.Server with both",
		"http.Get":                "the default client has no time-out",
		"http.Post":               "the default client has no time-out",
		"http.HandleFunc":         "a global mux: own a http.ServeMux",
		"prometheus.MustRegister": "a global registry: the caller owns one",
	}
	for _, f := range product(t) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok {
				if why := banned[pkg.Name+"."+sel.Sel.Name]; why != "" {
					t.Errorf("%s: %s.%s: %s", at(call.Pos()), pkg.Name, sel.Sel.Name, why)
				}
			}
			return true
		})
	}
}

// literals calls fn for each string constant of the product.
func literals(t *testing.T, fn func(f *file, pos token.Pos, s string)) {
	t.Helper()
	for _, f := range product(t) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					fn(f, lit.Pos(), s)
				}
			}
			return true
		})
	}
}

// gantry_<stage>_<what>_<unit>[_total]: a dashboard is written once and reads the same for every stage. internal/metrics
// refuses other names when they are declared; here also those that no test declares are looked at.
func TestMetricNames(t *testing.T) {
	name := regexp.MustCompile(`^gantry_[a-zA-Z0-9_]+$`)
	literals(t, func(f *file, pos token.Pos, s string) {
		if !name.MatchString(s) {
			return
		}
		if err := metrics.Check(s, strings.HasSuffix(s, "_total")); err != nil {
			t.Errorf("%s: %v", at(pos), err)
		}
	})
}

// An error says what was being done to what; that it failed is known.
func TestErrorTexts(t *testing.T) {
	literals(t, func(f *file, pos token.Pos, s string) {
		if strings.HasPrefix(strings.ToLower(s), "failed to") || strings.Contains(s, ": failed to") {
			t.Errorf("%s: %q: write the operation and its object", at(pos), s)
		}
	})
}

// What a package starts, opens or holds, its tests must be seen to give back.
func TestLeakChecks(t *testing.T) {
	dirs := byDir(goFiles(t))
	for dir, files := range dirs {
		var why string
		tested, checked := false, false
		for _, f := range files {
			if f.test {
				ast.Inspect(f.syntax, func(n ast.Node) bool {
					if d, ok := n.(*ast.FuncDecl); ok && strings.HasPrefix(d.Name.Name, "Test") && d.Name.Name != "TestMain" {
						tested = true
					}
					if call, ok := n.(*ast.CallExpr); ok {
						if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Main" {
							if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "testkit" {
								checked = true
							}
						} else if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "Main" && dir == "internal/testkit" {
							checked = true
						}
					}
					return true
				})
				continue
			}
			if under(dir, "internal/lint") {
				continue
			}
			for _, path := range []string{"net", "net/http", "C", "os/exec"} {
				if pos := f.imports()[path]; pos != 0 {
					why = at(pos) + " imports " + path
				}
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					why = at(n.Pos()) + " starts a goroutine"
				case *ast.SelectorExpr:
					pkg, ok := n.X.(*ast.Ident)
					switch {
					case !ok:
					case pkg.Name == "media" && n.Sel.Name == "Frame":
						why = at(n.Pos()) + " holds frames"
					case pkg.Name == "unix" && slices.Contains([]string{"Open", "Socket", "Eventfd"}, n.Sel.Name):
						why = at(n.Pos()) + " opens a descriptor"
					}
				}
				return true
			})
		}
		if tested && why != "" && !checked {
			t.Errorf("%s: no TestMain calls testkit.Main, and %s", dir, why)
		}
	}
}

// Whatever comes from outside is hostile until parsed, and a parser is only known to be safe by fuzzing it.
func TestParsersAreFuzzed(t *testing.T) {
	parser := regexp.MustCompile(`^(Parse|Unmarshal|Decode|Depacketize|Depacketise)`)
	for dir, files := range byDir(goFiles(t)) {
		where, fuzzed := "", false
		for _, f := range files {
			for _, decl := range f.syntax.Decls {
				d, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				fuzzed = fuzzed || f.test && strings.HasPrefix(d.Name.Name, "Fuzz")
				if f.test || !parser.MatchString(d.Name.Name) || !d.Name.IsExported() {
					continue
				}
				for _, p := range d.Type.Params.List {
					switch typ := p.Type.(type) {
					case *ast.Ident:
						if typ.Name == "string" {
							where = at(d.Pos())
						}
					case *ast.ArrayType:
						if id, ok := typ.Elt.(*ast.Ident); ok && (id.Name == "byte" || id.Name == "string") {
							where = at(d.Pos())
						}
					}
				}
			}
		}
		if where != "" && !fuzzed {
			t.Errorf("%s: a parser, and no Fuzz target in %s", where, dir)
		}
	}
}
