package serial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/testkit"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A fakeCamera is no camera: a goroutine at the other end of a pseudo-terminal that answers a few messages as one would, at address 1.
type fakeCamera struct {
	answer func(packet []byte) []byte // instead of the usual, where it returns something

	on        bool
	pan, tilt int16
	zoom      [4]byte
	presets   map[byte][2]int16
}

// reply returns what a camera sends to a packet.
func (c *fakeCamera) reply(p []byte) []byte {
	if c.answer != nil {
		if out := c.answer(p); out != nil {
			return out
		}
	}
	accepted := []byte{0x90, 0x41, 0xff, 0x90, 0x51, 0xff}
	is := func(prefix ...byte) bool { return bytes.HasPrefix(p, prefix) }
	switch {
	case is(0x88, 0x30):
		return []byte{0x88, 0x30, 0x02, 0xff}
	case p[0] != 0x81:
		return nil
	case is(0x81, 0x01, 0x04, 0x00):
		c.on = p[4] == 2
	case is(0x81, 0x09, 0x04, 0x00):
		return []byte{0x90, 0x50, map[bool]byte{true: 2, false: 3}[c.on], 0xff}
	case !c.on:
		return []byte{0x90, 0x61, 0x41, 0xff}
	case is(0x81, 0x01, 0x04, 0x47):
		copy(c.zoom[:], p[4:8])
	case is(0x81, 0x09, 0x04, 0x47):
		return append(append([]byte{0x90, 0x50}, c.zoom[:]...), 0xff)
	case is(0x81, 0x01, 0x06, 0x01): // moves at once, by its speed
		way := map[byte]int16{1: -1, 2: 1}
		c.pan += way[p[6]] * int16(p[4])
		c.tilt -= way[p[7]] * int16(p[5])
	case is(0x81, 0x01, 0x04, 0x3f, 0x01):
		c.presets[p[5]] = [2]int16{c.pan, c.tilt}
	case is(0x81, 0x01, 0x04, 0x3f, 0x02):
		c.pan, c.tilt = c.presets[p[5]][0], c.presets[p[5]][1]
	case is(0x81, 0x09, 0x06, 0x12):
		out := []byte{0x90, 0x50}
		for _, v := range []int16{c.pan, c.tilt} {
			for shift := 12; shift >= 0; shift -= 4 {
				out = append(out, byte(uint16(v)>>shift)&15)
			}
		}
		return append(out, 0xff)
	default:
		return []byte{0x90, 0x60, 0x02, 0xff}
	}
	return accepted
}

// plug starts a fake camera and returns the port that it is on.
func plug(t *testing.T, c *fakeCamera) string {
	t.Helper()
	c.presets = map[byte][2]int16{}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number uint32
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetUint32(int(fd), unix.TIOCGPTN)
		}
	}), err); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		var received []byte
		buf := make([]byte, 64)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return // the test closed one of the ends
			}
			received = append(received, buf[:n]...)
			for {
				end := bytes.IndexByte(received, terminator)
				if end < 0 {
					break
				}
				for _, b := range c.reply(received[:end+1]) { // byte by byte, as a slow line has it
					if _, err := master.Write([]byte{b}); err != nil {
						return
					}
				}
				received = received[end+1:]
			}
		}
	})
	t.Cleanup(func() {
		master.Close()
		done.Wait()
	})
	return fmt.Sprintf("/dev/pts/%d", number)
}

func open(t *testing.T, fake *fakeCamera, timeout time.Duration, log io.Writer) *Camera {
	t.Helper()
	c, err := Open(Config{Port: plug(t, fake), Timeout: timeout}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestCamera(t *testing.T) {
	var log bytes.Buffer
	c := open(t, &fakeCamera{}, 5*time.Second, &log)
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "modem lines") {
		t.Errorf("a pseudo-terminal has no modem lines, and the log says %q", log.String())
	}
	if n, err := c.AssignAddresses(); err != nil || n != 1 {
		t.Fatalf("%d cameras, %v", n, err)
	}
	if on, err := c.Power(); err != nil || on {
		t.Errorf("power %v, %v", on, err)
	}
	if err := c.Do(must(Drive(1, 1))); !errors.Is(err, NotExecutable) {
		t.Errorf("drive while off: %v", err)
	}
	for _, m := range []Message{PowerOn, must(Drive(-5, 3)), must(StorePreset(2)), must(Drive(24, -20)), must(ZoomTo(0x1234))} {
		if err := c.Do(m); err != nil {
			t.Fatalf("% x: %v", m, err)
		}
	}
	if on, err := c.Power(); err != nil || !on {
		t.Errorf("power %v, %v", on, err)
	}
	if z, err := c.Zoom(); err != nil || z != 0x1234 {
		t.Errorf("zoom %#x, %v", z, err)
	}
	if pan, tilt, err := c.Position(); err != nil || pan != 19 || tilt != -17 {
		t.Errorf("at %d, %d, %v", pan, tilt, err)
	}
	if err := c.Do(must(RecallPreset(2))); err != nil {
		t.Fatal(err)
	}
	if pan, tilt, err := c.Position(); err != nil || pan != -5 || tilt != 3 {
		t.Errorf("at %d, %d, %v after recalling -5, 3", pan, tilt, err)
	}
	if err := c.Do(Message{0x01, 0x7e}); !errors.Is(err, BadSyntax) {
		t.Errorf("an unknown command: %v", err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if pan, _, err := c.Position(); err != nil || pan != -5 {
				t.Errorf("at %d, %v", pan, err)
			}
		})
	}
	all.Wait()
}

// What lies before the reply is skipped: an echo, noise, another camera, a late completion.
func TestSkips(t *testing.T) {
	c := open(t, &fakeCamera{answer: func(p []byte) []byte {
		out := append(bytes.Clone(p), 0xff, 0x00, 0xff)
		out = append(out, bytes.Repeat([]byte{0x55}, 16)...)
		out = append(out, 0xff, 0xa0, 0x50, 0x03, 0xff, 0x90, 0x51, 0xff, 0x90, 0x38, 0xff, 0x90, 0x62, 0x04, 0xff)
		return append(out, 0x90, 0x50, 0x02, 0xff)
	}}, 5*time.Second, io.Discard)
	if on, err := c.Power(); err != nil || !on {
		t.Errorf("power %v, %v", on, err)
	}
}

func TestSilence(t *testing.T) {
	c := open(t, &fakeCamera{answer: func(p []byte) []byte { return p }}, 50*time.Millisecond, io.Discard) // an echo alone
	err := c.Do(PowerOn)
	if !errors.Is(err, ErrNoReply) || !errors.Is(err, errNoReply) {
		t.Errorf("%v, want no reply and what came instead", err)
	}
}

func TestOpenErrors(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if c, err := Open(Config{Port: filepath.Join(t.TempDir(), "none")}, log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, %v", c, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Open(Config{Port: file}, log); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v, %v", c, err)
	}
	if c, err := Open(Config{Port: file, Address: 8}, log); err == nil || !strings.Contains(err.Error(), "address 8") {
		t.Errorf("%v, %v", c, err)
	}
}

func TestClosed(t *testing.T) {
	c, err := Open(Config{Port: plug(t, &fakeCamera{})}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if err := c.Do(PowerOn); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a command to a closed port: %v", err)
	}
}
