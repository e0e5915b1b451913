package media_test

import (
	"testing"

	"gantry/media"
)

func TestRationalText(t *testing.T) {
	for text, want := range map[string]media.Rational{
		"30": {30, 1}, "0": {0, 1}, "30000/1001": {30000, 1001}, "29.97": {30000, 1001}, "59.94": {60000, 1001},
		"23.976": {24000, 1001}, "23.98": {24000, 1001}, "12.5": {12500, 1000}, "119.88": {120000, 1001},
	} {
		var r media.Rational
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%s: %v %v, want %v", text, r, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1/0", "1/-2", "NaN", "Inf", "1e9", "30/", "99999999999999999999"} {
		var r media.Rational
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q gave %v", text, r)
		}
	}
}

func FuzzRationalText(f *testing.F) {
	f.Add("29.97")
	f.Add("30000/1001")
	f.Fuzz(func(t *testing.T, text string) {
		var r, again media.Rational
		if r.UnmarshalText([]byte(text)) != nil {
			return
		}
		b, _ := r.MarshalText()
		if err := again.UnmarshalText(b); err != nil || again.Float() != r.Float() {
			t.Fatalf("%q became %v, then %v %v", text, r, again, err)
		}
	})
}
