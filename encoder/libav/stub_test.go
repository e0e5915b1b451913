//go:build !cgo || nolibav

package libav

import (
	"errors"
	"strings"
	"testing"

	"gantry/encoder"
	"gantry/media"
)

// Without FFmpeg, interlaced pictures and JPEGs are refused with the reason.
func TestConverterIsMissing(t *testing.T) {
	in := media.VideoFormat{Width: 1920, Height: 1080, FourCC: media.UYVY, Field: media.TopFieldFirst}
	for _, f := range []media.VideoFormat{in, {Width: 1280, Height: 720, FourCC: media.MJPG}} {
		_, err := NewConverter(f, true)
		if !errors.Is(err, encoder.ErrUnavailable) || !strings.Contains(err.Error(), "built without FFmpeg") {
			t.Errorf("%v: %v", f, err)
		}
	}
	in.Field = media.Progressive
	if c, err := NewConverter(in, true); c != nil || err != nil {
		t.Errorf("progressive: %v, %v", c, err)
	}
}
