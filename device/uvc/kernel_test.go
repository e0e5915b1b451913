package uvc

import (
	"context"
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/vivid"
	"gantry/internal/testkit/vm"
	kernel "gantry/internal/v4l2"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// guest has a vivid device whose only input is a webcam.
var guest = vm.Options{Vivid: "n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0 multiplanar=1", TimeTravel: true}

// TestInVM runs the tests named TestKernel... on vivid.
func TestInVM(t *testing.T) { vm.RunTests(t, guest, "^TestKernel") }

func node(t *testing.T) string {
	t.Helper()
	n := vivid.Node("vivid-000-vid-cap")
	if n == "" {
		t.Fatal("no vivid")
	}
	return n
}

func control(t *testing.T, name string) Control {
	t.Helper()
	list, err := Controls(node(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no control %q in %+v", name, list)
	return Control{}
}

func TestKernelControls(t *testing.T) {
	vm.Guest(t)
	if m := Missing(); m != "" {
		if _, err := Controls(node(t)); err == nil || err.Error() != m {
			t.Error(err)
		}
		t.Skip(m)
	}
	c := control(t, "Brightness")
	if c.ID != 0x00980900 || c.Min != 0 || c.Max != 255 || c.Step != 1 || c.Value != c.Default {
		t.Errorf("%+v", c)
	}
	if err := SetControl(node(t), c.ID, c.Value+7); err != nil {
		t.Fatal(err)
	}
	if now := control(t, "Brightness"); now.Value != c.Value+7 {
		t.Errorf("set to %d, is %d", c.Value+7, now.Value)
	}
	if err := SetControl(node(t), c.ID, 256); err == nil {
		t.Error("256 was accepted")
	}
	list, err := Controls(node(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.ID == 0x00980909 || c.ID == vivid.SignalMode {
			t.Errorf("%q is no control of the picture", c.Name)
		}
	}
	if c := control(t, "Menu"); len(c.Menu) < 2 || c.Menu[c.Value] == "" { // one of its own, for tests
		t.Errorf("%+v", c)
	}
}

func TestKernelRate(t *testing.T) {
	vm.Guest(t)
	d, err := kernel.Open(node(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.Format(d.CaptureType())
	if err != nil {
		t.Fatal(err)
	}
	f.Width, f.Height = 320, 180 // small pictures come at several rates
	if _, err := d.SetFormat(d.CaptureType(), f); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{10, 30} {
		set, err := d.SetFrameRate(d.CaptureType(), media.Rational{Num: want, Den: 1})
		if err != nil || set.Float() != float64(want) {
			t.Fatalf("set %d pictures a second: %v, %v", want, set, err)
		}
		rate, err := MeasureRate(t.Context(), node(t), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(rate-set.Float()) > 0.05*set.Float() {
			t.Errorf("%.2f pictures a second, and vivid is set to %v", rate, set)
		}
		t.Logf("%.2f pictures a second, set to %v", rate, set)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MeasureRate(ctx, node(t), time.Second); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNoNode(t *testing.T) {
	if _, err := MeasureRate(t.Context(), "/dev/null/none", time.Second); err == nil {
		t.Error("a rate of nothing")
	}
	if _, err := Controls("/dev/null"); err == nil && Missing() != "" {
		t.Error("no error of a build without controls")
	}
	if _, err := Controls("/dev/none"); Missing() == "" && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
