package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gantry/device/alsa"
	"gantry/device/testsrc"
	"gantry/device/uvc"
	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/encoder/openh264"
	"gantry/internal/usb"
	"gantry/media"
)

// A machine is what probe finds.
type machine struct {
	Version  string           `json:"version"`
	Inputs   []input          `json:"inputs"`
	Sound    []alsa.Card      `json:"sound"`
	Encoders []encoder.Result `json:"encoders"`
	Missing  []string         `json:"missing,omitempty"` // what this build lacks, and why
}

// An input is a node that captures, what it is plugged into, and what that gives.
type input struct {
	v4l2.Info
	USB      *uvc.Dongle   `json:"usb,omitempty"`
	Controls []uvc.Control `json:"controls,omitempty"`  // of the picture
	Rate     float64       `json:"rate,omitempty"`      // pictures a second, measured; of USB devices alone
	RateErr  string        `json:"rateError,omitempty"` // why it could not be measured
}

// probe tells what this machine has. Every encoder codes 30 pictures of 1280x720, and every USB input captures for a second; it takes
// some seconds.
func probe(ctx context.Context, asJSON bool, w io.Writer) error {
	c := defaults()
	m := machine{Version: version, Inputs: []input{}}
	m.addInputs(ctx)
	params := c.Encoder.params()
	params.Codec = media.NoCodec
	m.Encoders = encoder.Probe(ctx, backends(), encoder.Trial{Format: testsrc.Default().Format(), Params: params, Decoder: decoder()})
	for _, missing := range []string{libav.Missing(), openh264.Missing(), uvc.Missing()} {
		if missing != "" {
			m.Missing = append(m.Missing, missing)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if asJSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		return out.Encode(m)
	}
	return m.print(w)
}

// addInputs finds the inputs for pictures and sound, and captures from each of USB for a second.
func (m *machine) addInputs(ctx context.Context) {
	for _, info := range v4l2.List() {
		in := input{Info: info}
		if d, ok := uvc.Find(os.DirFS("/"), filepath.Base(info.Node)); ok {
			in.USB = &d
			var err error
			if in.Rate, err = uvc.MeasureRate(ctx, info.Node, time.Second); err != nil {
				in.RateErr = err.Error()
			}
		}
		if uvc.Missing() == "" {
			in.Controls, _ = uvc.Controls(info.Node) // what keeps it from being opened is in Info.Error
		}
		m.Inputs = append(m.Inputs, in)
	}
	if m.Sound = alsa.List(); m.Sound == nil {
		m.Sound = []alsa.Card{}
	}
}

// decoder returns how the probe looks at pictures: not at all without FFmpeg.
func decoder() func(media.Codec) (encoder.Decoder, error) {
	if libav.Missing() != "" {
		return nil
	}
	return func(c media.Codec) (encoder.Decoder, error) { return libav.NewDecoder(c) }
}

func (m machine) print(w io.Writer) error {
	fmt.Fprintf(w, "Inputs (video.source in the configuration):\n\n  testsrc  a moving picture with the time, any size and rate\n")
	for _, in := range m.Inputs {
		fmt.Fprintf(w, "  v4l2     %s: %s\n             also as %s, whatever its number\n", in.Node, describeInput(in.Info), strings.Join(m.names(in), ", "))
		if in.USB != nil {
			fmt.Fprintf(w, "             on USB at %s, %d Mbit/s: %s %s %s\n", in.USB.Place, in.USB.Speed, in.USB.ID, in.USB.Name, in.USB.Serial)
			for _, note := range in.USB.Notes {
				fmt.Fprintf(w, "             note: %s\n", note)
			}
			if in.RateErr != "" {
				fmt.Fprintf(w, "             rate not measured: %s\n", in.RateErr)
			} else {
				fmt.Fprintf(w, "             measured %.1f pictures a second\n", in.Rate)
			}
		}
		for _, c := range in.Controls {
			fmt.Fprintf(w, "             control %s: %d of %d to %d\n", c.Name, c.Value, c.Min, c.Max)
		}
		for _, f := range in.Formats {
			note := ""
			if !f.Supported {
				note = " (gantryd does not take it)"
			}
			fmt.Fprintf(w, "             %-4s %s%s\n", f.FourCC, strings.Join(f.Sizes, ", "), note)
		}
	}
	if len(m.Inputs) == 0 {
		fmt.Fprintln(w, "  v4l2     no capture device: there is no /dev/video* that captures")
	}
	fmt.Fprintf(w, "\nSound (audio.source):\n\n  tone     440 and 880 Hz with a beep each second\n")
	for _, c := range m.Sound {
		place := ""
		if c.USB != nil {
			place = fmt.Sprintf(" (%s%s, %s)", usb.Prefix, c.USB.Place, c.USB.ID)
		}
		fmt.Fprintf(w, "  alsa     %s: %s%s\n", c.Name, c.Text, place)
	}
	if len(m.Sound) == 0 {
		fmt.Fprintln(w, "  alsa     no sound card that captures")
	}
	fmt.Fprint(w, "\nEncoders (encoder.backend), tried with 1280x720 at 30 pictures a second:\n\n")
	var table strings.Builder
	if err := encoder.Table(&table, m.Encoders); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		fmt.Fprint(w, "  "+line)
	}
	for _, missing := range m.Missing {
		fmt.Fprintf(w, "  not in this build: %s\n", missing)
	}
	return nil
}

// names are what stays the same when an input gets another number: of a USB device its port, and its serial number where no other has
// it.
func (m machine) names(in input) []string {
	if in.USB == nil {
		return []string{"name:" + in.Name, "bus:" + in.Bus}
	}
	port, own := usb.Prefix+in.USB.Place, usb.NameOf(in.USB.Device)
	for _, other := range m.Inputs {
		if other.USB != nil && other.USB.Place != in.USB.Place && usb.NameOf(other.USB.Device) == own {
			return []string{port}
		}
	}
	return slices.Compact([]string{own, port})
}

func describeInput(in v4l2.Info) string {
	if in.Error != "" {
		return in.Error
	}
	parts := []string{fmt.Sprintf("%s (%s)", in.Card, in.Driver)}
	for _, c := range in.Inputs {
		if c.Selected {
			parts = append(parts, strings.TrimSpace("input "+c.Name+" "+c.Signal))
		}
	}
	if in.Current != "" {
		parts = append(parts, "now "+in.Current)
	}
	return strings.Join(parts, ", ")
}
