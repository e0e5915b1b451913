package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"gantry/webui"
)

// The page's choice goes into the file, which keeps its comments and secrets; what cannot be changes nothing.
func TestChooseSource(t *testing.T) {
	file := writeConfig(t, "# mine\nvideo:\n  rtsp: {user: cam, password: hunter2, url: rtsp://old/} # the hall\naudio: {source: tone}\n")
	b := &box{file: file, again: make(chan struct{}, 1)}
	s := b.Source()
	if s.Kind != sourceTest || s.RTSP.URL != "rtsp://old/" || s.RTSP.Password != "" || s.Sound {
		t.Errorf("%+v", s)
	}
	s.Kind, s.RTSP.URL, s.Sound = sourceRTSP, "rtsp://new/", true
	if err := b.SetSource(s); err != nil {
		t.Fatal(err)
	}
	<-b.again
	c, err := load(file)
	text, _ := os.ReadFile(file)
	if err != nil || c.Video.Source != sourceRTSP || c.Video.RTSP.URL != "rtsp://new/" || c.Video.RTSP.Password != "hunter2" || c.Audio.Source != audioInput ||
		!strings.Contains(string(text), "# the hall") || !strings.Contains(string(text), "# mine") {
		t.Errorf("%v %+v\n%s", err, c.Video, text)
	}
	s.RTSP.URL = "http://new/"
	if err := b.SetSource(s); !errors.Is(err, webui.ErrBadSource) || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	if now, _ := os.ReadFile(file); string(now) != string(text) || len(b.again) != 0 {
		t.Errorf("a bad choice was written:\n%s", now)
	}
	s.Kind, s.Sound = sourceTest, false
	if err := b.SetSource(s); err != nil {
		t.Fatal(err)
	}
	if c, err := load(file); err != nil || c.Video.Source != sourceTest || c.Audio.Source != none {
		t.Errorf("%v %+v", err, c)
	}
}
