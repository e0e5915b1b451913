package v4l2

import (
	"fmt"

	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// block is what encoders in chips round the lines of a picture up to: they look for chroma behind a whole number of blocks.
const block = 16

// pad gives buffers whose chroma lies behind luma a whole number of blocks of lines, 1088 for 1080, of which the device fills those
// of the picture: so an encoder can read them where they are. A device that does not do exactly that keeps its format.
func (s *Source) pad(l layout, format kernel.Format) (kernel.Format, error) {
	lines := (format.Height + block - 1) / block * block
	if lines == format.Height || format.Field == uapi.FieldAlternate || len(format.Planes) != 1 || l.as != media.NV12 && l.as != media.YU12 && l.as != media.P010 {
		return format, nil
	}
	want := format
	want.Height, want.Planes = lines, nil
	got, err := s.dev.SetFormat(s.queue, want)
	if err == nil && same(got, want) && s.dev.Compose(s.queue, format.Width, format.Height) == nil {
		if got, err = s.dev.Format(s.queue); err == nil && same(got, want) {
			return got, nil
		}
	}
	if got, err = s.dev.SetFormat(s.queue, format); err != nil || !same(got, format) {
		return got, fmt.Errorf("set format %v again: %w, the driver takes %v", format, err, got)
	}
	return got, nil
}

func same(a, b kernel.Format) bool {
	return a.Width == b.Width && a.Height == b.Height && a.FourCC == b.FourCC && a.Field == b.Field
}
