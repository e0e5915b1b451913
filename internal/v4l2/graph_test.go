package v4l2

import (
	"context"
	"strings"
	"testing"

	"gantry/internal/testkit/vm"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// vimc is a camera of the media controller: a sensor, a debayer, a scaler, and capture nodes.
func TestKernelGraph(t *testing.T) {
	vm.Guest(t)
	for _, c := range []struct {
		node  string
		names []string
	}{
		{"Raw Capture 0", []string{"Sensor A"}},
		{"RGB/YUV Capture", []string{"Scaler", "Debayer", "Sensor"}},
	} {
		path := node(t, c.node)
		g, err := GraphOf(path)
		must(t, err)
		if g == nil || g.Driver != "vimc" {
			t.Fatalf("%s belongs to %+v", c.node, g)
		}
		chain, err := g.Upstream(path)
		must(t, err)
		var names []string
		for _, e := range chain {
			names = append(names, e.Name)
			if !strings.HasPrefix(e.Node, "/dev/v4l-subdev") {
				t.Errorf("%s has the node %q", e.Name, e.Node)
			}
		}
		t.Logf("%s is fed by %q", c.node, names)
		if len(names) < len(c.names) {
			t.Errorf("%s is fed by %q", c.node, names)
		}
		for i, want := range c.names {
			if i < len(names) && !strings.HasPrefix(names[i], want) {
				t.Errorf("%s is fed by %q, want %q", c.node, names, c.names)
			}
		}
		must(t, g.Close())
	}
	g, err := GraphOf(node(t, capture[0]))
	must(t, err)
	if g == nil || g.Driver != "vivid" {
		t.Fatalf("vivid belongs to %+v", g)
	}
	must(t, g.Close())
}

// The sensor's format is handed down the graph, and then the capture node streams. The kernel checks every link of vimc, also
// that to the other capture node.
func TestKernelGraphStreams(t *testing.T) {
	vm.Guest(t)
	path := node(t, "RGB/YUV Capture")
	g, err := GraphOf(path)
	must(t, err)
	chain, err := g.Upstream(path)
	must(t, err)
	must(t, g.Close())
	source := chain[len(chain)-1]
	sensor, err := OpenSubdev(source.Node)
	must(t, err)
	f, err := sensor.PadFormat(source.Out)
	must(t, err)
	f.Width, f.Height, f.Code = 640, 480, 0x3001 // MEDIA_BUS_FMT_SBGGR8_1X8
	_, err = sensor.SetPadFormat(source.Out, f)
	must(t, err)
	must(t, sensor.Close())
	raw, err := Open(node(t, "Raw Capture 0"))
	must(t, err)
	_, err = raw.SetFormat(raw.CaptureType(), Format{Width: 640, Height: 480, FourCC: media.NewFourCC("BA81"), Colorspace: f.Colorspace})
	must(t, err)
	must(t, raw.Close())

	f, err = Propagate(chain)
	must(t, err)
	d, err := Open(path)
	must(t, err)
	defer d.Close()
	got, err := d.SetFormat(d.CaptureType(), Format{Width: int(f.Width), Height: int(f.Height), FourCC: media.RGB3, Field: f.Field, Colorspace: f.Colorspace})
	must(t, err)
	q, err := d.NewQueue(d.CaptureType(), uapi.MemoryMMAP, 4)
	must(t, err)
	defer func() { must(t, q.Close(context.Background())) }()
	must(t, q.EnqueueAll())
	must(t, q.StreamOn())
	w := waiter(t, d)
	var b Done
	for range 5 {
		next(t, w, q, &b)
		if b.Used[0] != int(f.Width*f.Height)*3 {
			t.Errorf("picture of %d bytes in %v", b.Used[0], got)
		}
		q.Return(b.Index)
	}
	t.Logf("5 pictures of %v", got)
}
