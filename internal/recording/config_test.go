package recording

import (
	"testing"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func FuzzSize(f *testing.F) {
	for _, s := range []string{"20G", "1.5T", "500M", "7k", "12", "-1", "G", "1e400", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		if s < 0 || s > 1e15 {
			t.Errorf("%q is %d", text, s)
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil {
			t.Errorf("%q: %v", s.String(), err)
		}
	})
}
