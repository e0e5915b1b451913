// Package testkit is what the tests of all packages share: the leak checks of every TestMain, golden files, free ports,
// polling, and daemons under test. It knows nothing of any device, encoder or protocol, and no product code imports it.
//
// A package whose tests start goroutines, open file descriptors or hold media.Frames has this beside them:
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
// (in package media itself, and in what media imports, within the external test package).
package testkit
