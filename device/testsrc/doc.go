// Package testsrc is a camera and a microphone that need no hardware: a moving picture with the time and a frame counter
// burnt in, a tone with a beep each second, and still slates that say in words why there is no picture. It is the demo's
// camera, every test's source, and the picture that goes out while an input has no signal.
//
// It knows no encoder and no destination. It draws in limited-range BT.709.
//
// # What moves
//
// Pictures lie on a grid that holds every whole UTC second (for whole rates): frame n is captured at t0 + n·interval. A
// picture that nobody fetched in time is left out, with its sequence number; pictures never bunch. During the first 100 ms of
// each UTC second a white square shows in the top right corner and the tone is replaced by a 1 kHz beep: the two begin at
// the same instant, which measures the offset between sound and picture.
//
// # The mark
//
// Each picture carries its number and time in a strip along the bottom edge that survives strong compression and scaling:
// a grid of 40 columns and 3 rows of black and white cells. With a picture of w by h pixels, the cell in column c and row r
// covers x from c·w/40 to (c+1)·w/40 and y from (21+r)·h/24 to (22+r)·h/24. A white cell is a 1 bit. A reader compares the
// mean of the middle of each cell with the mean of the synchronisation cells.
//
//	columns 0, 1     synchronisation: black, white
//	columns 2…37     36 data bits, the first at the left
//	columns 38, 39   synchronisation: white, black
//
// The 108 data bits of the three rows, first row first, most significant bits first:
//
//	 4  version, 1
//	 4  flags: 1 the flash shows; the others 0
//	32  frame counter: 0 for the first picture after Start, one more for each interval, wrapping
//	48  capture time in UTC milliseconds since 1970
//	16  CRC of the 88 bits before it: CRC-16/IBM-3740 (polynomial 1021 hex, initial value FFFF hex, no reflection)
//	 4  zero
//
// Decode reads the mark in Go, and DecodeJS (decode.js) in a browser.
package testsrc
