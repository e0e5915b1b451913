package v4l2

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/internal/v4l2/uapi"
)

// A Graph is what a media device consists of: bridges whose capture node is fed by sub-devices show their parts so.
type Graph struct {
	Path   string // "/dev/media0"
	Driver string
	fd     int
	graph  uapi.MediaGraph
}

// An Entity is one part of a Graph.
type Entity struct {
	ID   uint32
	Name string
	Node string // "/dev/v4l-subdev0"; empty where it has none
	Sink int    // index of the pad by which data flow in on the way to the capture node, -1 at the source
	Out  int    // index of the pad by which they leave
}

// maxGraph bounds what a driver may list of each kind.
const maxGraph = 4096

// GraphOf opens the Graph that a node belongs to; nil when it belongs to none. The caller closes it.
func GraphOf(node string) (*Graph, error) {
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", node, err)
	}
	paths, _ := filepath.Glob("/dev/media*")
	for _, path := range paths {
		g, err := openGraph(path)
		if err != nil {
			continue // another's
		}
		if _, ok := g.entityOf(unix.Major(st.Rdev), unix.Minor(st.Rdev)); ok {
			return g, nil
		}
		g.Close()
	}
	return nil, nil
}

func openGraph(path string) (*Graph, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	g := &Graph{Path: path, fd: fd}
	info, err := uapi.GetMediaDeviceInfo(fd)
	if err == nil {
		g.Driver = text(info.Driver[:])
		err = g.read()
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

// read reads the topology, again where it grows meanwhile.
func (g *Graph) read() error {
	for range 3 {
		var t uapi.MediaTopology
		if err := uapi.GTopology(g.fd, &t, nil); err != nil {
			return err
		}
		if max(t.NumEntities, t.NumInterfaces, t.NumPads, t.NumLinks) > maxGraph {
			return fmt.Errorf("media graph of %d entities, %d links: more than %d", t.NumEntities, t.NumLinks, maxGraph)
		}
		g.graph = uapi.MediaGraph{
			Entities: make([]uapi.MediaEntity, t.NumEntities), Interfaces: make([]uapi.MediaInterface, t.NumInterfaces),
			Pads: make([]uapi.MediaPad, t.NumPads), Links: make([]uapi.MediaLink, t.NumLinks),
		}
		err := uapi.GTopology(g.fd, &t, &g.graph)
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
	}
	return unix.ENOSPC
}

// Close frees the Graph.
func (g *Graph) Close() error { return unix.Close(g.fd) }

// entityOf finds the entity that a device node stands for.
func (g *Graph) entityOf(major, minor uint32) (id uint32, ok bool) {
	for _, i := range g.graph.Interfaces {
		if i.Major != major || i.Minor != minor {
			continue
		}
		for _, l := range g.graph.Links {
			if l.Flags&uapi.MediaLinkKind == uapi.MediaLinkInterface && l.SourceID == i.ID {
				return l.SinkID, true
			}
		}
	}
	return 0, false
}

// Upstream returns the sub-devices that feed a capture node, the nearest first. Where a pad has several links, the enabled one
// counts; a pad whose links are all disabled gets its first one enabled.
func (g *Graph) Upstream(node string) ([]Entity, error) {
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", node, err)
	}
	at, ok := g.entityOf(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	if !ok {
		return nil, nil
	}
	var chain []Entity
	for range len(g.graph.Entities) { // a ring does not go on for ever
		from, in, err := g.feeder(at)
		if err != nil || from == nil {
			return chain, err
		}
		if n := len(chain); n > 0 {
			chain[n-1].Sink = in
		}
		e := Entity{ID: from.EntityID, Node: g.nodeOf(from.EntityID), Sink: -1, Out: int(from.Index)}
		for _, x := range g.graph.Entities {
			if x.ID == e.ID {
				e.Name = text(x.Name[:])
			}
		}
		chain = append(chain, e)
		at = e.ID
	}
	return chain, nil
}

// feeder returns the pad that feeds an entity, and the index of the pad that is fed; nil for a source.
func (g *Graph) feeder(entity uint32) (from *uapi.MediaPad, in int, err error) {
	var spare *uapi.MediaLink
	for i := range g.graph.Links {
		l := &g.graph.Links[i]
		sink := g.pad(l.SinkID)
		if l.Flags&uapi.MediaLinkKind != uapi.MediaLinkData || sink == nil || sink.EntityID != entity {
			continue
		}
		if l.Flags&uapi.MediaLinkEnabled != 0 {
			return g.pad(l.SourceID), int(sink.Index), nil
		}
		if spare == nil {
			spare = l
		}
	}
	if spare == nil {
		return nil, 0, nil
	}
	source, sink := g.pad(spare.SourceID), g.pad(spare.SinkID)
	if source == nil {
		return nil, 0, nil
	}
	d := uapi.MediaLinkDesc{Flags: spare.Flags&^uapi.MediaLinkKind | uapi.MediaLinkEnabled}
	d.Source = uapi.MediaPadDesc{Entity: source.EntityID, Index: uint16(source.Index)}
	d.Sink = uapi.MediaPadDesc{Entity: sink.EntityID, Index: uint16(sink.Index)}
	if err := uapi.SetupLink(g.fd, &d); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", g.Path, err)
	}
	spare.Flags |= uapi.MediaLinkEnabled
	return source, int(sink.Index), nil
}

func (g *Graph) pad(id uint32) *uapi.MediaPad {
	for i := range g.graph.Pads {
		if g.graph.Pads[i].ID == id {
			return &g.graph.Pads[i]
		}
	}
	return nil
}

// nodeOf returns an entity's device node.
func (g *Graph) nodeOf(entity uint32) string {
	for _, l := range g.graph.Links {
		if l.Flags&uapi.MediaLinkKind != uapi.MediaLinkInterface || l.SinkID != entity {
			continue
		}
		for _, i := range g.graph.Interfaces {
			if i.ID != l.SourceID {
				continue
			}
			data, err := os.ReadFile(fmt.Sprintf("/sys/dev/char/%d:%d/uevent", i.Major, i.Minor))
			if err != nil {
				return ""
			}
			for line := range strings.Lines(string(data)) {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
					return "/dev/" + name
				}
			}
		}
	}
	return ""
}

// OpenSubdev opens the node of a sub-device, such as an HDMI receiver. Its Device has timings, EDID, events and controls, and no
// queues.
func OpenSubdev(path string) (*Device, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &Device{path: path, fd: fd}, nil
}

// PadFormat returns the format of a sub-device's pad, as it goes over the bus (uapi.SubdevFormat.Code).
func (d *Device) PadFormat(pad int) (uapi.SubdevFormat, error) {
	f := uapi.SubdevFormat{Which: uapi.SubdevActive, Pad: uint32(pad)}
	err := uapi.SubdevGFmt(d.fd, &f)
	return f, d.wrap(err)
}

// SetPadFormat asks for a format of a sub-device's pad and returns the nearest that the driver took.
func (d *Device) SetPadFormat(pad int, f uapi.SubdevFormat) (uapi.SubdevFormat, error) {
	f.Which, f.Pad = uapi.SubdevActive, uint32(pad)
	err := uapi.SubdevSFmt(d.fd, &f)
	return f, d.wrap(err)
}

// Propagate hands the source's format down the chain that Upstream returned, from pad to pad, and returns what reaches the
// capture node: its format has to be the same, size and all, for the kernel to let it stream.
func Propagate(chain []Entity) (f uapi.SubdevFormat, err error) {
	for i := len(chain) - 1; i >= 0; i-- {
		d, err := OpenSubdev(chain[i].Node)
		if err != nil {
			return f, err
		}
		if sink := chain[i].Sink; sink >= 0 && i < len(chain)-1 {
			var got uapi.SubdevFormat
			if got, err = d.SetPadFormat(sink, f); err == nil && (got.Width != f.Width || got.Height != f.Height || got.Code != f.Code) {
				err = fmt.Errorf("%s makes %dx%d, code %#x, of %dx%d, code %#x", chain[i].Name, got.Width, got.Height, got.Code, f.Width, f.Height, f.Code)
			}
		}
		if err == nil {
			f, err = d.PadFormat(chain[i].Out)
		}
		if err = errors.Join(err, d.Close()); err != nil {
			return f, err
		}
	}
	return f, nil
}
