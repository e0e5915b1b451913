// Package vm boots a real Linux kernel inside a test: User Mode Linux, an ordinary process that starts in half a second,
// with the kernel's virtual media drivers built in (vivid, vicodec, vim2m, vimc, snd-aloop), and those of USB cameras and sound for
// internal/testkit/usb. scripts/vm builds that kernel
// once and caches it outside the tree; scripts/vm/run boots it from a shell.
//
// The guest's root is the host's own file system, read-only, so host programs run in it unchanged, dynamically linked ones
// too. It has its own /dev, /proc, /sys, /run and /dev/shm (where TMPDIR points); Options.Write names host directories that it
// may write to, at the same path. It has one processor.
//
// Three ways to use it:
//
//   - Tests that need the drivers: write them as ordinary tests that begin with vm.Guest(t), and one TestInVM that calls
//     vm.RunTests(t, options). `go test` then runs the others on the host and these in the guest, from the same test binary.
//   - One command to its end: vm.Run(t, options) fails the test when the command does.
//   - A daemon beside a test: m := vm.Start(ctx, options); talk to it over the network; m.Stop().
//
// With Options.Network the guest has one link to the host: a tap device that exists while the machine runs, with a /30 of
// the benchmarking range 198.18.0.0/15 (RFC 2544) for itself. Machine.Host is the host seen from the guest, Machine.Guest the
// guest seen from the host; TCP and UDP work both ways, and nothing is forwarded anywhere else. A server on the host is
// reached when it listens on Machine.Host or on all addresses. Options.Command runs when the link is up and its addresses are
// known, before the guest boots: the moment to start such a server, and the place of a program that lists the machine's
// addresses only once, as WebRTC servers do.
//
//	m, err := vm.Start(ctx, vm.Options{
//		Network: true,
//		Command: func(host, guest netip.Addr) []string {
//			relay := startRelay(t, host) // its HTTP and RTC ports listen on host, or on all addresses
//			return []string{gantryd, "--config", writeConfig(t, relay)} // captures from vm.VividNode
//		},
//		Stderr: log,
//	})
//
// The machine stops when its command ends, when ctx ends, or by Stop; when the test's process dies, it dies too. Network
// needs root (CAP_NET_ADMIN); the rest does not.
//
// The package knows nothing of what runs in the guest.
package vm
