package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// scripts returns the folder scripts/vm of the checkout that the working directory belongs to.
func scripts() (string, error) {
	if dir := os.Getenv("GANTRY_VM_SCRIPTS"); dir != "" { // scripts/vm/run, called from anywhere
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		candidate := filepath.Join(dir, "scripts", "vm")
		if _, err := os.Stat(filepath.Join(candidate, "kernel")); err == nil {
			return candidate, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find scripts/vm: the working directory is outside the checkout")
		}
		dir = parent
	}
}

// Build builds the test kernel unless the cache has it, and returns its path. The first build takes 5 to 10 minutes.
func Build(ctx context.Context) (string, error) {
	dir, err := scripts()
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, filepath.Join(dir, "kernel"))
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // it ends its compilers, then itself
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("build the test kernel: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
