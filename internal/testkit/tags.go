//go:build !nolibav

package testkit

// buildTags are those that the tests were built with, for the binaries that they start.
const buildTags = ""
