package v4l2

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	kernel "gantry/internal/v4l2"
	"gantry/media"
)

// Info describes one capture node, for `gantryd probe`.
type Info struct {
	Node    string       `json:"node"` // "/dev/video0"
	Name    string       `json:"name"` // stays the same when the number changes: Config.Device takes it after "name:"
	Driver  string       `json:"driver"`
	Card    string       `json:"card"`
	Bus     string       `json:"bus"` // as Name, after "bus:"
	Inputs  []InputInfo  `json:"inputs,omitempty"`
	Current string       `json:"current,omitempty"` // size, format and rate that are set
	Formats []FormatInfo `json:"formats,omitempty"`
	Error   string       `json:"error,omitempty"` // why nothing more is known
}

// InputInfo describes one connector of a node.
type InputInfo struct {
	Index    int    `json:"index"`
	Name     string `json:"name"`
	Selected bool   `json:"selected"`
	Digital  bool   `json:"digital"`          // HDMI or SDI: size and rate are the signal's
	Signal   string `json:"signal,omitempty"` // what the selected input receives, or why nothing
}

// FormatInfo describes one pixel layout of a node.
type FormatInfo struct {
	FourCC      string   `json:"fourcc"`
	Description string   `json:"description"`
	Supported   bool     `json:"supported"` // gantryd takes it
	Sizes       []string `json:"sizes,omitempty"`
}

// List describes the capture nodes of this machine, in the order of their numbers. It changes nothing in them. Nodes that
// cannot be opened are in the list with the reason.
func List() []Info {
	nodes, _ := filepath.Glob("/sys/class/video4linux/video*")
	slices.SortFunc(nodes, func(a, b string) int { return cmp.Compare(nodeNumber(a), nodeNumber(b)) })
	var list []Info
	for _, n := range nodes {
		if info, ok := describe("/dev/" + filepath.Base(n)); ok {
			list = append(list, info)
		}
	}
	return list
}

func nodeNumber(path string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), "video"))
	return n
}

// describe reads one node; ok is false when it does not capture.
func describe(path string) (info Info, ok bool) {
	info.Node = path
	if name, err := os.ReadFile(filepath.Join("/sys/class/video4linux", filepath.Base(path), "name")); err == nil {
		info.Name = strings.TrimSpace(string(name))
	}
	dev, err := kernel.Open(path)
	if err != nil {
		info.Error = explainOpen(path, err).Error()
		return info, true
	}
	defer dev.Close()
	queue := dev.CaptureType()
	if queue == 0 || dev.Mem2Mem() {
		return info, false
	}
	info.Driver, info.Card, info.Bus = dev.Driver(), dev.Card(), dev.Bus()
	s := Source{cfg: Config{Input: -1}, dev: dev, queue: queue, input: -1}
	if selected, err := dev.SelectedInput(); err == nil {
		s.input = selected
	}
	inputs, _ := dev.Inputs()
	for _, in := range inputs {
		out := InputInfo{Index: in.Index, Name: in.Name, Selected: in.Index == s.input, Digital: in.DVTimings}
		if out.Selected {
			if sig, err := s.look(); err != nil {
				out.Signal = err.Error()
			} else if sig.digital {
				out.Signal = sig.String()
			}
		}
		info.Inputs = append(info.Inputs, out)
	}
	if f, err := dev.Format(queue); err == nil {
		info.Current = f.String()
		if rate, _, err := dev.FrameRate(queue); err == nil && rate != (media.Rational{}) {
			info.Current += " " + rate.String() + " fps"
		}
	}
	formats, _ := dev.Formats(queue)
	for _, f := range formats {
		out := FormatInfo{FourCC: f.FourCC.String(), Description: f.Description}
		_, out.Supported = layoutOfCode(f.FourCC)
		out.Supported = out.Supported || f.FourCC == passed.code
		sizes, _ := dev.FrameSizes(f.FourCC)
		for _, r := range sizes {
			size := strconv.Itoa(r.MinWidth) + "x" + strconv.Itoa(r.MinHeight)
			if r.MaxWidth != r.MinWidth || r.MaxHeight != r.MinHeight {
				size += " to " + strconv.Itoa(r.MaxWidth) + "x" + strconv.Itoa(r.MaxHeight)
			}
			out.Sizes = append(out.Sizes, size)
		}
		info.Formats = append(info.Formats, out)
	}
	return info, true
}
