package vm_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gantry/internal/testkit/vm"
)

// A machine can be stopped at any moment of its life, also while it boots.
func TestStopWhileBooting(t *testing.T) {
	vm.Need(t)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m, err := vm.Start(ctx, vm.Options{Cmd: []string{"sleep", "1000"}})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			time.AfterFunc(after, cancel)
			err = m.Wait()
			var status vm.ExitError
			if !errors.As(err, &status) || status != 128+15 {
				t.Errorf("stopped after %v: %v, want SIGTERM's status", time.Since(began).Round(time.Millisecond), err)
			}
		})
	}
}
