//go:build cgo && !nolibav && (amd64 || arm64 || arm)

package encodertest

import (
	"context"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/encoder/openh264"
	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func trial(fourcc media.FourCC) encoder.Trial {
	in := Format(1280, 720, fourcc)
	in.Rate.Num = 5 // that any machine keeps up with, however busy
	return encoder.Trial{
		Format: in,
		Params: encoder.Params{Codec: media.H264, Bitrate: 1_000_000},
		Decoder: func(c media.Codec) (encoder.Decoder, error) {
			d, err := libav.NewDecoder(c)
			if err != nil {
				return nil, err
			}
			return d, nil
		},
	}
}

// Both software encoders live in one program: FFmpeg's shared libraries beside the bundled archive.
func TestProbeOfTheRealEncoders(t *testing.T) {
	backends := append(libav.Backends(), openh264.Backends()...)
	for _, fourcc := range []media.FourCC{media.NV12, media.YUYV, media.P010} {
		results := encoder.Probe(context.Background(), backends, trial(fourcc))
		if err := encoder.Table(t.Output(), results); err != nil {
			t.Fatal(err)
		}
		ok := map[string]bool{}
		for _, r := range results {
			ok[r.Encoder] = r.OK
			if r.OK && (r.PSNR < 30 || r.Profile == "" || r.Bitrate == 0) {
				t.Errorf("%+v", r)
			}
		}
		if !ok["libx264"] || !ok["openh264"] || results[0].Encoder != "libx264" {
			t.Errorf("%v: %+v", fourcc, results)
		}
	}
	deep := trial(media.P010)
	deep.Params.Codec = media.H265
	for _, r := range encoder.Probe(context.Background(), backends, deep) {
		if r.Encoder == "libx265" && (!r.OK || r.PSNR < 30) {
			t.Errorf("ten bits: %+v", r)
		}
	}
	start := time.Now()
	ranked, _, err := encoder.Rank(context.Background(), backends, trial(media.YUYV))
	if err != nil || len(ranked) < 2 || ranked[0].Name != "libx264" {
		t.Fatalf("%v, %v", ranked, err)
	}
	t.Logf("the ranking took %v", time.Since(start))
}
