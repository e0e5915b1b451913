// Package sound is what is done to samples between a microphone and an encoder: which channels go where, how loud, and what a
// meter shows of them.
//
// It knows no clock, no device and no codec.
package sound
