// Package resample changes the sample rate of sound, by a fixed ratio or by one that varies slowly: the clock of a sound card is
// never quite that of the pictures.
//
// It owns the arithmetic of positions and the filter. It knows no clock, and does not decide the ratio.
package resample
