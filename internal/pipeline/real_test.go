//go:build cgo && !nolibav && (amd64 || arm64 || arm)

package pipeline

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/encoder/openh264"
	"gantry/media"
)

// An ailing is a real encoder that, after some pictures, takes them and makes nothing more.
type ailing struct {
	encoder.Encoder
	left int
}

func (a *ailing) Encode(ctx context.Context, f *media.Frame, key bool) error {
	if a.left--; a.left < 0 {
		return nil
	}
	return a.Encoder.Encode(ctx, f, key)
}

// real returns a back end of that name, whose encoders, the first, second and so on, live for so many pictures; -1: for ever.
func real(t *testing.T, name string, opened *opening, lives ...int) encoder.Backend {
	t.Helper()
	for _, b := range slices.Concat(libav.Backends(), openh264.Backends()) {
		if b.Name != name {
			continue
		}
		open := b.Open
		b.Open = func(ctx context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
			e, err := open(ctx, in, p)
			if err != nil {
				return nil, err
			}
			opened.mu.Lock()
			defer opened.mu.Unlock()
			life := lives[min(opened.of(name), len(lives)-1)]
			opened.names = append(opened.names, name)
			if life >= 0 {
				e = &ailing{e, life}
			}
			return e, nil
		}
		return b
	}
	t.Fatalf("no back end %s", name)
	return encoder.Backend{}
}

// An opening is which encoders were opened.
type opening struct {
	mu    sync.Mutex
	names []string
}

func (o *opening) of(name string) (n int) {
	for _, have := range o.names {
		if have == name {
			n++
		}
	}
	return n
}

// A real encoder that stops producing is restarted; one that does so again soon gives way to the next in rank. The destination stays
// connected, and what it got decodes without a break but for the gaps.
func TestRealEncodersAreReplaced(t *testing.T) {
	if libav.Missing() != "" || openh264.Missing() != "" {
		t.Skip("needs both encoders: ", libav.Missing(), openh264.Missing())
	}
	for _, c := range []struct{ first, second string }{{"libx264", "openh264"}, {"openh264", "libx264"}} {
		bubble(t, func(t *testing.T) {
			p := newPeer("a")
			var opened opening
			r := start(t, func(r *rig) {
				r.spec.Encoder.Backends = []encoder.Backend{real(t, c.first, &opened, 500, 50), real(t, c.second, &opened, -1)}
			}, p)
			sleep(2 * time.Minute)
			opened.mu.Lock()
			defer opened.mu.Unlock()
			if want := []string{c.first, c.first, c.second}; !slices.Equal(opened.names, want) {
				t.Errorf("opened %v, want %v", opened.names, want)
			}
			st := r.Status()
			if st.Uplinks[0].Connects != 1 || st.Uplinks[0].Losses != 0 || st.Encoder.Name != c.second || r.camera.opened != 1 {
				t.Errorf("%+v %+v", st.Encoder, st.Uplinks[0])
			}
			if list := r.health.Conditions(); len(list) != 0 {
				t.Errorf("conditions %v", list)
			}
			if st.Encoder.Copied != 0 || st.Encoder.InPlace < 2200 { // those that ail do not tell
				t.Errorf("%d pictures read in place, %d copied", st.Encoder.InPlace, st.Encoder.Copied)
			}
			packets := p.got()
			steady(t, packets, encoderStuck+time.Second, true)
			d, err := libav.NewDecoder(media.H264)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			decoded, breaks := 0, 0
			for n, packet := range packets {
				if n > 0 && packet.PTS-packets[n-1].PTS > time.Second {
					if breaks++; !packet.Key {
						t.Errorf("a new encoder begins without a key frame at %v", packet.PTS)
					}
				}
				frames, err := d.Decode(packet)
				if err != nil {
					t.Fatalf("packet %d: %v", n, err)
				}
				for _, f := range frames {
					decoded++
					f.Release()
				}
			}
			if breaks != 2 || decoded < len(packets)-2 || len(packets) < 2700 {
				t.Errorf("%d breaks, %d of %d decoded", breaks, decoded, len(packets))
			}
		})
	}
}
