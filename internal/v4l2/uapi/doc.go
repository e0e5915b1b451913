// Package uapi is Linux's video4linux2 and dma-buf interface in Go: the constants, the structures and one function per ioctl,
// named as in linux/videodev2.h without the prefixes. It has no policy: it opens nothing, remembers nothing, waits for nothing,
// and returns the kernel's errors as they come (os.SyscallError; errors.Is finds the errno). It repeats only what a signal
// interrupted (EINTR).
//
// The structures have the kernel's layout on amd64, arm64 and 32-bit arm; the compiler checks their sizes. C aligns 64-bit
// integers to 8 bytes on 32-bit arm and Go to 4, so the padding is written out. There the forms with 32-bit times are used:
// kernels before 5.6 have no other, and the monotonic clock fits. Unions hold little-endian values.
package uapi
