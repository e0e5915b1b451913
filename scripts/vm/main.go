// Command vm runs a command of this machine in the test kernel, with its virtual capture devices:
//
//	scripts/vm/run [-network] [-vivid OPTIONS] [-write DIR]... [-kernel PARAMETERS] COMMAND [ARGUMENT]...
//	scripts/vm/run v4l2-ctl --list-devices
//	scripts/vm/run -network -write "$PWD/out" sh -c './gantryd --config box.yaml'
//
// Its exit status is the command's. Ctrl-C stops the command, then the machine. See gantry/internal/testkit/vm.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"gantry/internal/testkit/vm"
)

func main() {
	if self := os.Getenv("GANTRY_VM_PROGRAM"); self != "" {
		os.Remove(self) // built by scripts/vm/run for this once
	}
	o := vm.Options{Stdout: os.Stdout, Stderr: os.Stderr}
	flag.BoolVar(&o.Network, "network", false, "link the guest to the host; $GANTRY_VM_HOST is the host's address in the guest (needs root)")
	flag.BoolVar(&o.TimeTravel, "time-travel", false, "let computing take no time of the guest's clock")
	flag.StringVar(&o.Vivid, "vivid", "", "`options` of the vivid driver, as in \"num_inputs=1 input_types=3\"")
	flag.IntVar(&o.Memory, "memory", 512, "the guest's memory in `MiB`")
	flag.Func("write", "`directory` that the guest may write to", func(s string) error {
		dir, err := filepath.Abs(s)
		o.Write = append(o.Write, dir)
		return err
	})
	flag.Func("kernel", "further kernel `parameters`", func(s string) error {
		o.Kernel = append(o.Kernel, strings.Fields(s)...)
		return nil
	})
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "vm: no command to run in the guest")
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(run(o))
}

func run(o vm.Options) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	o.Command = func(host, guest netip.Addr) []string {
		if host.IsValid() {
			fmt.Fprintf(os.Stderr, "vm: host %v, guest %v\n", host, guest)
		}
		return flag.Args()
	}
	m, err := vm.Start(ctx, o)
	if err == nil {
		err = m.Wait()
	}
	var status vm.ExitError
	switch {
	case errors.As(err, &status):
		return int(status)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vm:", err)
		return 126
	}
	return 0
}
