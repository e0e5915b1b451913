package main

import (
	"fmt"
	"os"

	"gantry/internal/config"
	"gantry/webui"
)

// Source implements webui.Chooser: what the file says.
func (b *box) Source() webui.Source {
	c, err := load(b.file)
	if err != nil { // it was broken since; the page says so
		c = defaults()
	}
	s := webui.Source{Kind: c.Video.Source, Kinds: sourceNames, Sound: c.Audio.Source == audioInput, V4L2: c.Video.V4L2.Device, File: c.Video.File.Path}
	s.RTSP.URL, s.RTSP.User, s.RTSP.Transport = c.Video.RTSP.URL, c.Video.RTSP.User, c.Video.RTSP.Transport
	s.UDP.Addr, s.UDP.Interface = c.Video.UDP.Addr, c.Video.UDP.Interface
	return s
}

// SetSource implements webui.Chooser. The rest of the file, comments too, stays as it is.
func (b *box) SetSource(s webui.Source) error {
	old, err := os.ReadFile(b.file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	next, err := config.Edit(old, sourceChanges(s, b.Source()))
	if err != nil {
		return err
	}
	c := defaults()
	if err := config.Decode(next, b.file, &c); err != nil {
		return fmt.Errorf("%w: %w", webui.ErrBadSource, err)
	}
	if err := config.Write(b.file, next); err != nil {
		return err
	}
	select {
	case b.again <- struct{}{}:
	default: // it is about to be read
	}
	return nil
}

// sourceChanges are the keys that s changes.
func sourceChanges(s, old webui.Source) []config.Change {
	changes := []config.Change{{Key: "video.source", Value: s.Kind}}
	switch s.Kind {
	case sourceV4L2:
		changes = append(changes, config.Change{Key: "video.v4l2.device", Value: s.V4L2})
	case sourceRTSP:
		changes = append(changes, config.Change{Key: "video.rtsp.url", Value: s.RTSP.URL}, config.Change{Key: "video.rtsp.user", Value: s.RTSP.User},
			config.Change{Key: "video.rtsp.transport", Value: s.RTSP.Transport})
		if s.RTSP.Password != "" || s.RTSP.User == "" {
			changes = append(changes, config.Change{Key: "video.rtsp.password", Value: s.RTSP.Password})
		}
	case sourceFile:
		changes = append(changes, config.Change{Key: "video.file.path", Value: s.File})
	case sourceUDP:
		changes = append(changes, config.Change{Key: "video.udp.addr", Value: s.UDP.Addr}, config.Change{Key: "video.udp.interface", Value: s.UDP.Interface})
	}
	brings := s.Kind == sourceRTSP || s.Kind == sourceFile || s.Kind == sourceUDP
	switch {
	case brings && s.Sound:
		changes = append(changes, config.Change{Key: "audio.source", Value: audioInput})
	case old.Sound: // which it cannot be any more, or shall not
		changes = append(changes, config.Change{Key: "audio.source", Value: none})
	}
	return changes
}
