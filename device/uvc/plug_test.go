package uvc

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/sysfs"
	camera "gantry/internal/testkit/usb"
	"gantry/internal/testkit/vm"
	"gantry/internal/usb"
)

// What the kernel says of a camera in the first port, and its record in testdata.
const treeFile = "testdata/linux-6.1.txt"

// plugged is the camera in that record.
var plugged = usb.Device{Place: "1-1", ID: "534d:2109", Serial: "20210623", Name: "MACROSILICON USB Video", Speed: 480, Version: "2.00"}

// The record is what the kernel really says: paths, links and files of a USB camera with a microphone.
func TestKernelTree(t *testing.T) {
	vm.Guest(t)
	c := &camera.Camera{Vendor: 0x534d, Product: 0x2109, Maker: "MACROSILICON", Name: "USB Video", Serial: "20210623", Sound: true,
		Formats: []camera.Format{{FourCC: "YUYV", Width: 160, Height: 120, Rates: []int{30}}},
		Picture: func(f camera.Format, _ int) []byte { return make([]byte, 2*f.Width*f.Height) }}
	c.PlugInto(t, 0)
	root := os.DirFS("/")
	found := false
	testkit.Eventually(t, 10*time.Second, "the camera is there", func() bool {
		nodes, _ := filepath.Glob("/dev/video*")
		for _, n := range nodes {
			if d, ok := Find(root, filepath.Base(n)); ok && d.Device == plugged && strings.HasPrefix(strings.Join(d.Notes, " "), "MacroSilicon MS2109") {
				found = true
			}
		}
		sound, _ := filepath.Glob("/sys/bus/usb/devices/1-1:1.2/sound/card*/pcmC*c")
		return found && len(sound) > 0
	})
	var got bytes.Buffer
	if err := sysfs.Dump(&got, root, "video4linux", "sound"); err != nil {
		t.Fatal(err)
	}
	recorded, err := os.ReadFile(treeFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(recorded)) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(got.String(), line) {
			t.Errorf("the kernel does not say %q; all it says:\n%s", line, got.String())
			break
		}
	}
	rate, err := measure(t, root)
	if err != nil || rate < 28 || rate > 32 {
		t.Errorf("%.2f pictures a second, %v; the camera gives 30", rate, err)
	}
}

// measure measures the rate of the camera's node for pictures; it has one for metadata too, which gives none.
func measure(t *testing.T, root fs.FS) (rate float64, err error) {
	nodes, _ := filepath.Glob("/dev/video*")
	for _, n := range nodes {
		if _, ok := Find(root, filepath.Base(n)); !ok {
			continue
		}
		if rate, err = MeasureRate(t.Context(), n, time.Second); err == nil {
			return rate, nil
		}
	}
	return 0, err
}

// The record is read as the device that it is of.
func TestRecordedTree(t *testing.T) {
	root := sysfs.Load(t, treeFile)
	for _, node := range []string{"video8", "video9"} { // pictures and metadata
		if d, ok := Find(root, node); !ok || d.Device != plugged {
			t.Errorf("%s: %+v, %v", node, d, ok)
		}
	}
	if d, ok := usb.Of(root, "sound", "card2"); !ok || d != plugged {
		t.Errorf("sound: %+v, %v", d, ok)
	}
}
