// Package v4l2 is the device.Source of a capture node of the kernel: HDMI and SDI receivers, grabbers, cameras. It owns the
// choice of input, format and rate, follows the signal (DV timings, source-change events), and hands the driver's own buffers
// on as Frames, stamped by the kernel's monotonic clock.
//
// Packets is the device.PacketSource of nodes that code their pictures themselves.
//
// It believes the event and the status of the input rather than the pictures: some drivers deliver pictures without a signal.
//
// It knows nothing of encoders, converters or slates. Quirks of USB devices are device/uvc's, sound is device/alsa's.
package v4l2
