//go:build cgo && (amd64 || arm64 || arm)

package openh264

import (
	"testing"

	"gantry/internal/testkit"
	"gantry/internal/testkit/encodertest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestOpenH264(t *testing.T) {
	encodertest.Suite{Backend: Backends()[0], FullColour: true}.Run(t)
}
