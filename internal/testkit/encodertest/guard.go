package encodertest

import (
	"context"
	"os"
	"syscall"
	"testing"

	"gantry/encoder"
	"gantry/media"
)

// guarded is a memory whose last byte lies right before a page that nobody may touch, as the end of a mapped kernel buffer.
type guarded struct{ pixels []byte }

func newGuarded(t *testing.T, size int) guarded {
	page := os.Getpagesize()
	length := (size+page-1)/page*page + page
	m, err := syscall.Mmap(-1, 0, length, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(m) })
	if err := syscall.Mprotect(m[length-page:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return guarded{m[length-page-size : length-page : length-page]}
}

func (g guarded) CPU(f *media.Frame, fn func([][]byte) error) error {
	planes := make([][]byte, len(f.Planes))
	for i, p := range f.Planes {
		planes[i] = g.pixels[p.Offset:][:p.Len:p.Len]
	}
	return fn(planes)
}

func (guarded) Release(*media.Frame) {}

// guard: no layout and size makes the encoder read past a picture's end, which would be a crash on a device's last buffer.
func (s Suite) guard(t *testing.T) {
	for _, fourcc := range s.Backend.Inputs {
		for _, size := range [][2]int{{640, 360}, {642, 362}, {643, 361}, {1282, 722}} {
			for _, width := range []int{0, 320} {
				if width != 0 && !s.Scales {
					continue
				}
				in := Format(size[0], size[1], fourcc)
				e := s.Open(t, in, encoder.Params{Bitrate: 2_000_000, Width: width, Height: width * 9 / 16})
				planes, total := in.Packed()
				f := media.NewFrame(in, planes, newGuarded(t, total))
				if err := encoder.DrawPattern(f, 0, 4); err != nil {
					t.Fatal(err)
				}
				if err := e.Encode(context.Background(), f, false); err != nil {
					t.Errorf("%v: %v", in, err)
				}
				f.Release()
			}
		}
	}
}
