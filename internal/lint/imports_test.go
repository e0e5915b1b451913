package lint

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A rule says what the packages of a folder may import from this module. Rules are looked up by the longest prefix.
type rule struct {
	dir   string
	allow []string // folders with all that is in them; "=x" is x alone, "." is the importing package's own folder and below, "*" is all
	why   string
}

const (
	leaf      = "level 0: what flows, and plumbing that knows nothing of Gantry; all stand on it, so it stands on nothing"
	contract  = "level 1: a contract stands on media alone, and no contract knows another"
	implement = "level 2: an implementation sees its own contract and the plumbing of its side, never a sibling or another stage"
	compose   = "level 3: works on the contracts; which implementations exist is for cmd to know"
	choose    = "level 4: a command picks implementations of its own side; gantryd and gantry-relay share no more than that"
	support   = "for tests: sees the contracts, so that any implementation's tests can use it; imported by tests alone"
)

// leaves are level 0: every package above may import them.
var leaves = []string{"media", "internal/clock", "internal/secret", "internal/health", "internal/metrics", "internal/supervise", "internal/linkrate"}

// The levels of docs/architecture.md, from the bottom up.
var rules = []rule{
	{"media", []string{"media"}, leaf},
	{"systemd", []string{}, leaf},
	{"internal/clock", []string{}, leaf},
	{"internal/secret", []string{}, leaf},
	{"internal/linkrate", []string{}, leaf},
	{"internal/health", []string{"media", "internal/clock"}, leaf},
	{"internal/metrics", []string{"media", "internal/clock"}, leaf},
	{"internal/supervise", []string{"media", "internal/clock", "internal/health"}, leaf},

	{"device", []string{}, contract},
	{"encoder", []string{}, contract},
	{"uplink", []string{}, contract},
	{"relay", []string{}, contract},

	{"internal/v4l2", []string{"internal/v4l2"}, implement},
	{"internal/usb", []string{}, leaf},
	{"internal/uevent", []string{}, leaf},
	{"internal/proto", []string{"internal/proto"}, implement},
	{"internal/rtc", []string{"internal/rtc", "internal/proto"}, implement},
	{"internal/recording", []string{}, implement},
	{"device/", []string{"=device", ".", "internal/v4l2", "internal/usb", "internal/proto"}, implement},
	{"encoder/", []string{"=encoder", ".", "internal/v4l2"}, implement},
	{"uplink/", []string{"=uplink", ".", "internal/proto"}, implement},
	{"uplink/record", []string{"=uplink", ".", "internal/recording"}, implement},
	{"uplink/heal", []string{"=uplink", ".", "internal/recording"}, implement},
	{"relay/access", []string{"."}, implement},
	{"relay/ingest", []string{"=relay", "internal/proto"}, implement}, // what all ingest servers share
	{"relay/ingest/", []string{"=relay", "=relay/ingest", ".", "relay/access", "internal/proto", "internal/rtc"}, implement},
	{"relay/egress", []string{"=relay", "internal/proto"}, implement},
	{"relay/egress/", []string{"=relay", "=relay/egress", ".", "relay/access", "internal/proto", "internal/rtc"}, implement},
	{"relay/egress/restream", []string{"=relay", "=relay/egress", "=uplink", ".", "relay/access"}, implement}, // sends as a box does, by what cmd hands it
	{"relay/record", []string{"=relay", ".", "relay/access", "internal/recording"}, implement},
	{"relay/slate", []string{"."}, implement},
	{"relay/web", []string{"=relay", ".", "relay/access", "internal/proto"}, implement},

	{"internal/config", []string{"=device", "=encoder", "=uplink", "internal/config"}, compose},
	{"internal/pipeline", []string{"=device", "=encoder", "=uplink", "internal/pipeline"}, compose},
	{"webui", []string{".", "internal/config"}, compose},

	{"cmd/gantryd", []string{".", "device", "encoder", "uplink", "webui", "systemd", "internal/pipeline", "internal/config",
		"internal/usb", "internal/uevent"}, choose},
	{"cmd/gantry-relay", []string{".", "relay", "=encoder/libav/sound", "uplink", "systemd", "internal/config", "internal/rtc", "internal/proto"}, choose},

	{"internal/testkit", []string{"internal/testkit", "=device", "=encoder", "=uplink", "=relay"}, support},
	{"internal/testkit/vivid", []string{"internal/v4l2"}, support},
	{"internal/e2e", []string{"internal/testkit"}, support},
	{"internal/bench", []string{"*"}, support},
	{"internal/lint", nil, support},
	{"scripts", []string{"internal/testkit"}, support},
}

// ruleFor returns the rule with the longest prefix. "device/" is for what is in the folder, "device" for the folder.
func ruleFor(dir string) *rule {
	var best *rule
	for i := range rules {
		r := &rules[i]
		prefix := strings.TrimSuffix(r.dir, "/")
		if under(dir, prefix) && (r.dir == prefix || dir != prefix) && (best == nil || len(r.dir) > len(best.dir)) {
			best = r
		}
	}
	return best
}

func (r *rule) allows(from, to string) bool {
	allow := r.allow
	if r.why != leaf {
		allow = append(slices.Clone(allow), leaves...)
	}
	for _, a := range allow {
		switch {
		case a == "*":
			return true
		case a == ".":
			if under(to, from) || sameImplementation(from, to) {
				return true
			}
		case strings.HasPrefix(a, "="):
			if to == a[1:] {
				return true
			}
		case under(to, a):
			return true
		}
	}
	return false
}

// sameImplementation reports whether two folders belong to one implementation, as uplink/srt/x and uplink/srt do.
func sameImplementation(a, b string) bool {
	r := ruleFor(a)
	if r == nil || ruleFor(b) != r {
		return false
	}
	first := func(dir string) string {
		rest := strings.TrimPrefix(dir, strings.TrimSuffix(r.dir, "/"))
		name, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		if !strings.HasSuffix(r.dir, "/") {
			return r.dir
		}
		return name
	}
	return first(a) == first(b)
}

// The rules themselves: what they must allow and what they must not, and each folder has one.
func TestImportRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.dir] {
			t.Errorf("%s has two rules", r.dir)
		}
		seen[r.dir] = true
	}
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"media/h264", "media", true},
		{"media", "device", false},
		{"device", "media", true},
		{"device", "encoder", false},
		{"device/v4l2", "device", true},
		{"device/v4l2", "internal/v4l2", true},
		{"device/v4l2", "device/uvc", false},
		{"device/v4l2", "encoder", false},
		{"encoder/libav/h264", "encoder/libav", true},
		{"uplink/srt", "uplink/whip", false},
		{"uplink/whip", "internal/proto/whip", true},
		{"relay/ingest/whip", "relay", true},
		{"relay/ingest/whip", "relay/egress/whep", false},
		{"relay", "relay/egress/whep", false},
		{"internal/pipeline", "encoder", true},
		{"internal/pipeline", "encoder/libav", false},
		{"cmd/gantryd", "encoder/libav", true},
		{"cmd/gantry-relay", "device/v4l2", false},
		{"cmd/gantry-relay", "relay/egress/whep", true},
		{"cmd/gantry-relay", "encoder/libav", false},
		{"relay/egress/restream", "uplink", true},
		{"relay/egress/restream", "uplink/srt", false},
		{"cmd/gantryd", "internal/testkit", false},
	} {
		if got := ruleFor(c.from).allows(c.from, c.to); got != c.want {
			t.Errorf("%s may import %s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

// Imports point downward only: a stage can be understood, replaced and tested without those above and beside it.
func TestImportDirection(t *testing.T) {
	for _, f := range goFiles(t) {
		r := ruleFor(f.dir)
		if r == nil {
			t.Errorf("%s: no rule says what %s may import; add it in internal/lint/imports_test.go", f.path, f.dir)
			continue
		}
		if f.test {
			continue // a test may use the test source, an encoder or a peer of any stage
		}
		for path, pos := range f.imports() {
			to, ours := strings.CutPrefix(path, "gantry/")
			if !ours || r.allows(f.dir, to) {
				continue
			}
			t.Errorf("%s: %s imports %s\n\t%s", at(pos), f.dir, to, r.why)
		}
	}
}

// Some packages of others have one place, so that a change of theirs touches one place of ours.
func TestForeignImports(t *testing.T) {
	homes := []struct {
		path    string
		allowed []string
		why     string
	}{
		{"os/exec", []string{"internal/bench"}, "a daemon that runs other programs inherits their failures, versions and shell quoting; use a library or a system call"},
		{"os/user", nil, "needs cgo for what NSS does, and no daemon here changes its user: systemd does"},
		{"log", nil, "log/slog, injected, so that a record has its keys and its place"},
		{"io/ioutil", nil, "deprecated since Go 1.16"},
		{"C", []string{"encoder/libav"}, "one small cgo binding is all that the box has of its own; the relay and the protocols build without cgo"},
		{"unsafe", []string{"internal/v4l2", "internal/rtc", "internal/bench", "encoder/libav", "device"}, "only code that talks to the kernel or to C needs it"},
		{"github.com/pion/mediadevices", []string{"encoder"}, "the embedded encoders and their control interfaces, not its drivers: importing those opens every device"},
		{"github.com/prometheus", []string{"internal/metrics"}, "internal/metrics holds the rules for names and the registry"},
		{"github.com/chromedp", nil, "the browser is for tests"},
		{"testing", nil, "testing code in a daemon; internal/testkit is the place"},
	}
	for _, f := range product(t) {
		for path, pos := range f.imports() {
			for _, h := range homes {
				if !under(path, h.path) || (!strings.Contains(h.path, ".") && path != h.path) {
					continue
				}
				ok := false
				for _, dir := range h.allowed {
					ok = ok || under(f.dir, dir)
				}
				if !ok {
					t.Errorf("%s: imports %s\n\t%s", at(pos), path, h.why)
				}
			}
		}
	}
}

// The relay runs anywhere as one static file, and a protocol package that needs C could not be cross-built by everyone.
func TestBuildsWithoutCgo(t *testing.T) {
	var patterns []string
	for _, dir := range []string{"media", "relay", "uplink", "internal/proto", "internal/rtc", "internal/pipeline", "internal/config", "cmd/gantry-relay"} {
		if _, err := os.Stat(root + "/" + dir); err == nil {
			patterns = append(patterns, "./"+dir+"/...")
		}
	}
	build := exec.Command("go", append([]string{"build"}, patterns...)...)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("CGO_ENABLED=0 %s: %v\n%s", strings.Join(build.Args, " "), err, out)
	}
}
