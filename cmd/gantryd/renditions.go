package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"gantry/encoder"
	"gantry/internal/pipeline"
)

// maxRenditions bounds how many times a box encodes its picture besides the main one.
const maxRenditions = 4

// maxLayerName bounds the names of renditions that go as layers of one picture: each packet may carry it.
const maxLayerName = 16

// A renditionConfig is a further encode of the same pictures. What it does not say is as encoder has it.
type renditionConfig struct {
	Name       string `yaml:"name"`
	Codec      string `yaml:"codec"`
	Width      int    `yaml:"width"`
	Height     int    `yaml:"height"`
	Bitrate    int    `yaml:"bitrate" unit:"bit/s"`     // the most that is used
	MinBitrate int    `yaml:"min_bitrate" unit:"bit/s"` // the least, however bad the path
}

// SetDefaults is called by the decoder for each element of the list.
func (c *renditionConfig) SetDefaults() { c.Codec, c.MinBitrate = "h264", 150_000 }

// Validate checks everything that does not depend on the machine.
func (c *renditionConfig) Validate() error {
	errs := []error{checkName(c.Name)}
	if (c.Width == 0) != (c.Height == 0) || c.Width != 0 && (c.Width < 64 || c.Width > 8192 || c.Height < 64 || c.Height > 8192) {
		errs = append(errs, fmt.Errorf("width: %dx%d is not from 64x64 to 8192x8192, or neither for the source's size", c.Width, c.Height))
	}
	whole := encoderConfig{Backend: auto, Codec: c.Codec, Bitrate: c.Bitrate, MinBitrate: c.MinBitrate, GOP: time.Second, Timecode: none}
	return errors.Join(append(errs, whole.Validate())...)
}

// checkRenditions checks what one rendition cannot know: that names differ, and that destinations and renditions fit.
func checkRenditions(list []renditionConfig, uplinks []uplinkConfig) (errs []error) {
	if len(list) > maxRenditions {
		errs = append(errs, fmt.Errorf("renditions: %d are more than %d", len(list), maxRenditions))
	}
	used := map[string]bool{}
	for _, u := range uplinks {
		used[u.Rendition] = true
		for _, name := range u.Simulcast {
			used[name] = true
		}
	}
	known := map[string]bool{"": true}
	for i, r := range list {
		switch {
		case r.Name == "":
		case r.Name == pipeline.MainLayer:
			errs = append(errs, fmt.Errorf("renditions[%d].name: %q is what encoder makes", i, r.Name))
		case known[r.Name]:
			errs = append(errs, fmt.Errorf("renditions[%d].name: %q is used twice", i, r.Name))
		case !used[r.Name]:
			errs = append(errs, fmt.Errorf("renditions[%d].name: no destination gets %q: uplinks say so with the keys rendition and simulcast", i, r.Name))
		}
		known[r.Name] = true
	}
	for i, u := range uplinks {
		if !known[u.Rendition] {
			errs = append(errs, fmt.Errorf("uplinks[%d].rendition: there is no rendition %q", i, u.Rendition))
		}
		if err := checkSimulcast(u, known); err != nil {
			errs = append(errs, fmt.Errorf("uplinks[%d].simulcast: %w", i, err))
		}
	}
	return errs
}

// checkSimulcast checks the layers of a destination.
func checkSimulcast(u uplinkConfig, known map[string]bool) error {
	if len(u.Simulcast) == 0 {
		return nil
	}
	if u.WHIP == nil {
		return errors.New("only a whip destination takes layers")
	}
	seen := map[string]bool{u.Rendition: true}
	for _, name := range u.Simulcast {
		switch {
		case name == "" || !known[name]:
			return fmt.Errorf("there is no rendition %q", name)
		case seen[name]:
			return fmt.Errorf("%q is sent twice", name)
		}
		seen[name] = true
	}
	for name := range seen {
		if len(name) > maxLayerName || strings.ContainsAny(name, "-_.") {
			return fmt.Errorf("%q is no layer's name, which has at most %d letters and digits (RFC 8852)", name, maxLayerName)
		}
	}
	return nil
}

// renditions are the further encodes; main says what they share.
func renditions(list []renditionConfig, main encoderConfig) (specs []pipeline.Rendition) {
	for _, r := range list {
		p := encoder.Params{Codec: videoCodecs[r.Codec], Width: r.Width, Height: r.Height, Bitrate: r.Bitrate, GOP: main.GOP}
		e := pipeline.Encoder{Key: r.Codec, Params: p, Floor: r.MinBitrate, Timecode: timecodes[main.Timecode]}
		for _, b := range backends() {
			if b.Codec == p.Codec {
				e.Backends = append(e.Backends, b)
			}
		}
		specs = append(specs, pipeline.Rendition{Name: r.Name, Encoder: e})
	}
	return specs
}
