package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gantry/internal/secret"
	"gantry/internal/testkit"
	"gantry/media"
)

// box is a configuration with a field of every kind.
type box struct {
	HTTP    string            `yaml:"http"`
	Picture picture           `yaml:"picture"`
	Bitrate int               `yaml:"bitrate" unit:"bit/s"`
	GOP     time.Duration     `yaml:"gop"`
	Uplinks []uplink          `yaml:"uplinks"`
	Labels  map[string]string `yaml:"labels"`
	Backup  *uplink           `yaml:"backup"`
	Gain    float64           `yaml:"gain"`
	Small   uint8             `yaml:"small"`
	Mute    bool              `yaml:"mute"`
	hidden  int
}

type picture struct {
	Width int            `yaml:"width"`
	Rate  media.Rational `yaml:"rate"`
}

func (p picture) Validate() error {
	if p.Width%2 != 0 {
		return fmt.Errorf("width: %d is odd", p.Width)
	}
	return nil
}

type uplink struct {
	Name  string        `yaml:"name"`
	URL   string        `yaml:"url"`
	Token secret.String `yaml:"token"`
	Tries int           `yaml:"tries"`
}

func (u *uplink) SetDefaults() { u.Tries = 7 }

func (u *uplink) Validate() error {
	var errs []error
	if u.URL == "" {
		errs = append(errs, errors.New("url: is missing"))
	}
	if u.Name == "all" {
		errs = append(errs, errors.New("a name that means: everything")) // no key: the text stays whole
	}
	return errors.Join(errs...)
}

func (b *box) Validate() error {
	var errs []error
	seen := map[string]bool{}
	for i, u := range b.Uplinks {
		if seen[u.Name] {
			errs = append(errs, fmt.Errorf("uplinks[%d].name: %q is used twice", i, u.Name))
		}
		seen[u.Name] = true
	}
	if b.Bitrate < 100_000 {
		errs = append(errs, errors.New("bitrate: must be at least 100k"))
	}
	return errors.Join(errs...)
}

func defaults() box {
	return box{HTTP: ":80", Picture: picture{Width: 640, Rate: media.Rational{Num: 30, Den: 1}}, Bitrate: 1e6, hidden: 5}
}

func TestDecode(t *testing.T) {
	got := defaults()
	err := Decode([]byte(`
http: ""
picture: {rate: 29.97}
bitrate: 2500k
gop: 1m0.5s
gain: -1.5e1
small: 255
mute: true
labels: {a: b, 1: yes}
uplinks:
  - {name: a, url: "x", token: 0123}
  - {name: b, url: y, tries: 1}
backup:
  url: z
`), "f", &got)
	if err != nil {
		t.Fatal(err)
	}
	want := box{Picture: picture{640, media.Rational{Num: 30000, Den: 1001}}, Bitrate: 2_500_000, GOP: 60500 * time.Millisecond,
		Gain: -15, Small: 255, Mute: true, Labels: map[string]string{"a": "b", "1": "yes"}, hidden: 5,
		Uplinks: []uplink{{"a", "x", "0123", 7}, {"b", "y", "", 1}}, Backup: &uplink{URL: "z", Tries: 7}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEmptyFileIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "uplinks:\npicture:\nlabels:\nbackup:\n"} {
		got := defaults()
		if err := Decode([]byte(text), "f", &got); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		got.Labels, got.Uplinks = nil, nil
		if !reflect.DeepEqual(got, defaults()) {
			t.Errorf("%q: %+v", text, got)
		}
	}
	bad := defaults()
	bad.Picture.Width = 3
	for _, text := range []string{"", "gop: 2s"} {
		if err := Decode([]byte(text), "f", &bad); err == nil || !strings.Contains(err.Error(), "picture.width: 3 is odd") {
			t.Errorf("bad defaults with %q: %v", text, err)
		}
	}
}

// Each testdata/NAME.bad.yaml gives exactly the messages in NAME.bad.txt.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b := defaults()
		err = Decode(data, filepath.Base(file), &b)
		if err == nil {
			t.Errorf("%s was accepted", file)
			continue
		}
		testkit.Golden(t, strings.TrimSuffix(filepath.Base(file), ".yaml")+".txt", []byte(err.Error()+"\n"))
		var one *Error
		if !errors.As(err, &one) {
			t.Errorf("%s: no Error in %T", file, err)
		}
	}
}

func TestBitrates(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "64000": 64000, "2500k": 2500000, "2.5M": 2500000, "1G": 1e9, ".5k": 500} {
		if got, ok := parseBitrate(text); !ok || got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "k", "-1k", "2500 k", "1e6", "2500kbit", "NaN", "9999999G", "0x10", "1.2.3k"} {
		if got, ok := parseBitrate(text); ok {
			t.Errorf("%q gave %d", text, got)
		}
	}
}

func TestLoadAndWrite(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "box.yaml")
	b := defaults()
	if err := Load(file, &b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	for _, text := range []string{"bitrate: 1M\n", "bitrate: 2M\n"} {
		if err := Write(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Load(file, &b); err != nil || b.Bitrate != 2e6 {
		t.Errorf("loaded %d %v", b.Bitrate, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, []byte("# "+strings.Repeat("x", MaxSize))); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if err := Load(file, &b); err == nil || err.Error() != file+": larger than 1048576 bytes" {
		t.Errorf("a huge file: %v", err)
	}
	if err := Write(filepath.Join(dir, "none", "x"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write into no folder: %v", err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// Whatever the file holds: no panic, and an error names its place.
func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := defaults()
		err := Decode(data, "f", &b)
		if err == nil {
			return
		}
		var list Errors
		if !errors.As(err, &list) || len(list) == 0 || err.Error() == "" {
			t.Fatalf("%T %v", err, err)
		}
	})
}
