package recording

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/media"
)

var tracks = []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2}}

var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// programme returns seconds of access units of a moving picture, 30 a second, with a key frame each half second.
func programme(t *testing.T, seconds string) (units [][]byte) {
	t.Helper()
	raw, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-t", seconds, "-c:v", "libx264",
		"-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-x264-params", "aud=1", "-f", "h264", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range strings.Split(string(raw), "\x00\x00\x00\x01\x09") {
		if i > 0 {
			units = append(units, []byte("\x00\x00\x00\x01\x09"+u))
		}
	}
	return units
}

// A machine records a programme whose capture times it sees a little off, on a timeline of its own.
type machine struct {
	disk   *Disk
	folder *Folder
	writer *Writer
	zero   time.Duration // of its timeline
	off    time.Duration // of its idea of wall time
}

func newMachine(t *testing.T, zero, off time.Duration) *machine {
	t.Helper()
	c := Default()
	c.Dir, c.Spare = t.TempDir(), 0
	m := &machine{disk: NewDisk(c), folder: NewFolder(c.Dir), zero: zero, off: off}
	m.open(t)
	return m
}

func (m *machine) open(t *testing.T) {
	t.Helper()
	w, err := NewWriter(m.disk, "", Source{Tracks: tracks, KeyFrame: func() {},
		Wall: func(_ uint8, pts time.Duration) (time.Time, bool) { return began.Add(pts - m.zero + m.off), true }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.writer = w
}

// record takes the pictures from first up to last, and their sound.
func (m *machine) record(t *testing.T, units [][]byte, first, last int, lost bool) {
	t.Helper()
	write := func(p *media.Packet) {
		p.Start, p.End, p.DTS = true, true, p.PTS
		if _, err := m.writer.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	for i := first; i < last; i++ {
		at := m.zero + time.Duration(i)*time.Second/30
		write(&media.Packet{PTS: at, Key: i%15 == 0, Lost: lost && i == first, Data: units[i]})
		write(&media.Packet{Track: 1, PTS: at, Key: true, Data: []byte{0xfc, 0xff, byte(i)}})
	}
}

// content returns a hash of each picture, and the packets of sound, that a folder's files hold one after the other.
func content(t *testing.T, dir string) (hashes, sound []string) {
	t.Helper()
	list, err := NewDisk(Config{Dir: dir}).list()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		out, err := exec.Command("ffmpeg", "-v", "error", "-i", f.path, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s", f.path, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if c := strings.Split(line, ","); len(c) == 6 && !strings.HasPrefix(line, "#") {
				hashes = append(hashes, strings.TrimSpace(c[5]))
			} else if !strings.HasPrefix(line, "#") {
				t.Errorf("%s: %s", f.path, line)
			}
		}
		out, err = exec.Command("ffprobe", "-v", "error", "-select_streams", "a", "-show_data_hash", "crc32", "-show_entries", "packet=data_hash", "-of", "csv=p=0", f.path).Output()
		if err != nil {
			t.Fatalf("%s: %v", f.path, err)
		}
		sound = append(sound, strings.Fields(string(out))...)
	}
	return hashes, sound
}

func heal(t *testing.T, from, to *machine) (clips int, holes []Hole) {
	t.Helper()
	gaps, err := to.folder.Gaps()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gaps {
		h, err := from.folder.Cut(g, func(clip []byte) error {
			clips++
			for range 2 { // a clip whose answer was lost comes again
				if _, err := to.disk.Paste("", to.folder, clip); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		holes = append(holes, h...)
	}
	return clips, holes
}

// What one machine missed is put in from what the other recorded: every picture is there once, and so is the sound.
func TestHeal(t *testing.T) {
	units := programme(t, "8")
	box := newMachine(t, time.Hour, 0)
	box.record(t, units, 0, 240, false)
	if err := box.writer.Close(); err != nil {
		t.Fatal(err)
	}
	want, wantSound := content(t, box.disk.config.Dir)
	for name, miss := range map[string]func(*machine){
		"outage":      func(m *machine) { m.record(t, units, 0, 52, false); m.record(t, units, 150, 240, false) },
		"lost packet": func(m *machine) { m.record(t, units, 0, 52, false); m.record(t, units, 53, 240, true) },
		"two outages": func(m *machine) {
			m.record(t, units, 0, 40, false)
			m.record(t, units, 75, 101, false)
			m.record(t, units, 150, 240, false)
		},
		"restart": func(m *machine) {
			m.record(t, units, 0, 52, false)
			torn, _ := os.ReadFile(m.writer.Path())
			path := m.writer.Path()
			_ = m.writer.Close() // as if it was not: the last fragment is torn
			whole, _ := os.ReadFile(path)
			if err := os.WriteFile(path, append(torn, whole[len(torn):len(torn)+500]...), 0o600); err != nil {
				t.Fatal(err)
			}
			m.folder = NewFolder(m.folder.dir)
			m.open(t)
			m.zero += time.Minute
			m.record(t, units, 90, 240, false)
		},
		"long": func(m *machine) {
			m.disk.config.Every = time.Second
			m.record(t, units, 0, 40, false)
			m.record(t, units, 210, 240, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			relay := newMachine(t, 7*time.Second+123*time.Microsecond, -900*time.Microsecond)
			miss(relay)
			if err := relay.writer.Close(); err != nil {
				t.Fatal(err)
			}
			before, _ := relay.folder.Gaps()
			clips, holes := heal(t, box, relay)
			if clips == 0 || len(holes) != 0 {
				t.Errorf("%d clips, holes %v", clips, holes)
			}
			if gaps, err := relay.folder.Gaps(); err != nil || len(gaps) != 0 {
				t.Errorf("gaps %v were %v, %v", gaps, before, err)
			}
			got, gotSound := content(t, relay.disk.config.Dir)
			if len(want) != 240 || strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%d pictures, want %d", len(got), len(want))
			}
			if strings.Join(gotSound, " ") != strings.Join(wantSound, " ") {
				t.Errorf("%d packets of sound, want %d", len(gotSound), len(wantSound))
			}
		})
	}
}

// Of what nobody has a recording, the healer is told; the rest is put in from the next key frame on.
func TestHole(t *testing.T) {
	units := programme(t, "8")
	box, relay := newMachine(t, 0, 0), newMachine(t, time.Hour, 0)
	box.record(t, units, 90, 240, false)
	relay.record(t, units, 0, 60, false)
	relay.record(t, units, 180, 240, false)
	for _, m := range []*machine{box, relay} {
		if err := m.writer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, holes := heal(t, box, relay)
	if len(holes) != 1 || holes[0].To.Sub(holes[0].From).Round(100*time.Millisecond) != time.Second {
		t.Errorf("%v", holes)
	}
	if got, _ := content(t, relay.disk.config.Dir); len(got) != 210 {
		t.Errorf("%d pictures", len(got))
	}
	gaps, _ := relay.folder.Gaps()
	if len(gaps) != 1 {
		t.Errorf("%v", gaps)
	}
	if _, err := relay.disk.Paste("", relay.folder, []byte("no recording")); err == nil {
		t.Error("rubbish was taken")
	}
	// A clip in the middle of a group of pictures fits nowhere.
	other := newMachine(t, 0, 0)
	other.record(t, units, 75, 240, false)
	_ = other.writer.Close()
	var fits error
	_, err := other.folder.Cut(Gap{From: began.Add(2600 * time.Millisecond), To: began.Add(3 * time.Second)}, func(clip []byte) error {
		_, fits = relay.disk.Paste("", relay.folder, clip)
		return nil
	})
	if err != nil || !errors.Is(fits, ErrClip) {
		t.Errorf("%v %v", err, fits)
	}
}

func FuzzClip(f *testing.F) {
	dir := f.TempDir()
	x := index{video: 1}
	x.init, _, _ = head(tracks, 0, sets{sps: []byte{0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe8}, pps: []byte{0x68, 0xce, 0x3c, 0x80}})
	w := &memory{}
	_ = (&file{out: w}).begin(x.init)
	f.Add(w.Bytes())
	file, err := newFile(w, tracks, 0, &media.Packet{Data: []byte{0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe8, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65, 1}})
	if err == nil {
		_ = file.add(&media.Packet{Key: true, Data: []byte{0, 0, 0, 1, 0x65, 1, 2, 3}}, began)
		_ = file.add(&media.Packet{Track: 1, Key: true, Data: []byte{1, 2, 3}}, began)
		_ = file.close()
	}
	f.Add(w.Bytes()[len(w.Bytes())/2:])
	f.Add(w.Bytes())
	c := Default()
	c.Dir = dir
	disk, folder := NewDisk(c), NewFolder(dir)
	f.Fuzz(func(t *testing.T, clip []byte) { _, _ = disk.Paste("", folder, clip) })
}
