package h264_test

import (
	"testing"

	"gantry/media/h264"
)

func TestRecoveryPoint(t *testing.T) {
	slice := []byte{0, 0, 1, 0x41, 1}
	for name, c := range map[string]struct {
		au   []byte
		want bool
	}{
		"alone":               {append([]byte{0, 0, 1, 6, 6, 1, 0x9a, 0x80}, slice...), true},
		"after another":       {append([]byte{0, 0, 1, 6, 5, 2, 1, 1, 6, 1, 0x9a, 0x80}, slice...), true},
		"another":             {append([]byte{0, 0, 1, 6, 5, 2, 6, 1, 0x80}, slice...), false},
		"none":                {slice, false},
		"after the picture":   {append(slice[:5:5], 0, 0, 1, 6, 6, 1, 0x9a, 0x80), false},
		"longer than it is":   {append([]byte{0, 0, 1, 6, 6, 9, 0x9a, 0x80}, slice...), false},
		"a type of two bytes": {append([]byte{0, 0, 1, 6, 255, 6, 1, 1, 0x80}, slice...), false},
	} {
		if got := h264.RecoveryPoint(c.au); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzRecoveryPoint(f *testing.F) {
	f.Add([]byte{0, 0, 1, 6, 5, 2, 1, 1, 6, 1, 0x9a, 0x80, 0, 0, 1, 0x41, 1})
	f.Fuzz(func(t *testing.T, au []byte) { h264.RecoveryPoint(au) })
}
