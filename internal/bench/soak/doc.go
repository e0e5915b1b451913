// Package soak holds the tests that a relay stands under load and loss: its real binary, its viewers by the score, links of our
// own in network namespaces, for as long as DURATION says.
//
// It measures from outside: what viewers receive, and what the process holds. It knows nothing of the relay's inside.
package soak
