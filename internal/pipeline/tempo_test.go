package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"

	"gantry/device"
	"gantry/media"
)

func TestTempo(t *testing.T) {
	for _, c := range []struct {
		name string
		real float64
		lost uint32 // before each picture
		said media.Rational
		want string
	}{
		{"as said", 30, 0, media.Rational{Num: 30, Den: 1}, ""},
		{"29.97 for 30", 29.97, 0, media.Rational{Num: 30, Den: 1}, ""},
		{"half of it lost on the way", 15, 1, media.Rational{Num: 30, Den: 1}, ""},
		{"in the dark", 15, 0, media.Rational{Num: 30, Den: 1}, "it gives 15.0 pictures a second and is set to 30:"},
		{"faster", 60, 0, media.Rational{Num: 30000, Den: 1001}, "it gives 60.0 pictures a second and is set to 29.97"},
		{"nothing said", 15, 0, media.Rational{}, ""},
	} {
		var tempo tempo
		dues := 0
		for i := range int(10 * c.real) {
			wrong, due := tempo.observe(time.Hour+time.Duration(float64(i)/c.real*1e9), c.lost, c.said)
			if !due {
				continue
			}
			dues++
			if !strings.HasPrefix(wrong, c.want) || c.want == "" && wrong != "" {
				t.Errorf("%s: %q", c.name, wrong)
			}
		}
		if dues != 4 {
			t.Errorf("%s: %d windows in 10 s", c.name, dues)
		}
	}
}

type warned struct{ device.Source }

func (warned) Warning() string { return "a slow port" }

// What a source says of itself is shown while it is in use.
func TestWarning(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, func(r *rig) {
			v := r.spec.Video
			open := v.Open
			v.Open = func(ctx context.Context) (device.Source, error) {
				src, err := open(ctx)
				return warned{src}, err
			}
			r.spec.Video = v
		})
		sleep(time.Second)
		if list := r.health.Conditions(); len(list) != 1 || list[0].Code != "source-warning" || list[0].Reason != "a slow port" {
			t.Errorf("%+v", list)
		}
		r.spec.Video = r.camera.video()
		r.spec.Video.Key = "another"
		r.Apply(r.spec)
		sleep(time.Second)
		if list := r.health.Conditions(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
}
