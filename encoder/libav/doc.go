// Package libav codes video with FFmpeg's libraries through one thin cgo binding (libav.h, libav.c). It compiles unchanged
// on FFmpeg 5.1 and later: it uses only what all of them have, and finds encoders by name when the program runs.
//
// Each encoder is an entry in a table (backends.go): the options that make it a live encoder, which pixel layouts it takes,
// whether its bitrate really follows a change. Options that an encoder does not know are errors, never ignored. Pictures in
// other layouts or sizes go through swscale, with the picture's own colour matrix and range.
//
// Packaging is the rest of Gantry's: no libavformat here. A build with the tag nolibav or without cgo has an empty table,
// and Missing says why.
package libav
