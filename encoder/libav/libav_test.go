//go:build cgo && !nolibav

package libav

import (
	"testing"

	"gantry/internal/testkit"
	"gantry/internal/testkit/encodertest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestX264(t *testing.T) {
	encodertest.Suite{Backend: Backends()[0], FullColour: true, Scales: true}.Run(t)
}
