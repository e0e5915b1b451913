// Package m2m codes pictures on the kernel's stateful hardware encoders (V4L2 memory-to-memory: Raspberry Pi, i.MX 8, Venus,
// MediaTek, Allegro). It owns the choice of the node, its two queues and its controls. Pictures in DMABUFs are imported as they
// are where the encoder can read their layout; others are copied, and counted.
//
// It knows no source: it tells by a picture's planes whether it can be imported. It converts nothing.
package m2m
