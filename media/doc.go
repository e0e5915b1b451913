// Package media holds what flows through Gantry: raw pictures (Frame), raw sound (Audio), coded pieces (Packet), what they
// belong to (Track), what travels against them (Feedback), and the bounded Queue between two stages.
//
// It knows no device, codec library, protocol or configuration. Times are time.Duration on CLOCK_MONOTONIC of the machine
// that captured the media; 90 kHz ticks and wall time exist only where packets are packed for a wire.
package media
