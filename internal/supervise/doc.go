// Package supervise keeps long-lived work alive: Keep is Gantry's only retry loop, Group starts stages in order and stops
// them in the order of the signal path.
//
// It knows nothing of what the work is. It logs what it decides; the work returns its errors and does not log them.
package supervise
