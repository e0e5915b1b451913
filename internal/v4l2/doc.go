// Package v4l2 owns an open video4linux device: its file descriptor, what poll(2) says about it, and its buffer queues. It is
// the floor between the ioctls (uapi) and those who implement a contract on them: capture (device/v4l2) and memory-to-memory
// encoders (encoder/m2m). Single- and multi-planar devices look alike here.
//
// It decides nothing: which format, which input, what to do about a lost signal is for its callers. Errors are the kernel's,
// with the device's path and the call's name; errors.Is finds the errno.
//
// Nodes are opened past Go's runtime poller on purpose. That poller would call the driver's poll at once, and drivers that can
// read(2) then start streaming by themselves and answer VIDIOC_REQBUFS with EBUSY; and it never asks for POLLPRI, by which
// events such as a changed source are announced.
package v4l2
