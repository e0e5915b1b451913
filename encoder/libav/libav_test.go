//go:build cgo && !nolibav

package libav

import (
	"testing"

	"gantry/internal/testkit"
	"gantry/internal/testkit/encodertest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func suite(t *testing.T, name string) encodertest.Suite {
	t.Helper()
	for _, b := range Backends() {
		if b.Name == name {
			return encodertest.Suite{Backend: b, FullColour: true, Scales: true}
		}
	}
	t.Fatalf("no back end %s", name)
	return encodertest.Suite{}
}

func TestX264(t *testing.T) { suite(t, "libx264").Run(t) }

func TestX265(t *testing.T) {
	s := suite(t, "libx265")
	s.Sibling = true
	s.Run(t)
}
