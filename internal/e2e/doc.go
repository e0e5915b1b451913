// Package e2e holds the tests that run the real binaries from end to end: the demo, and other people's programs as peers.
// There is nothing in it to import.
package e2e
