// Package config reads a daemon's YAML file into its Config value, strictly: an unknown key, a wrong type or a bad value is
// an error with its place in the file, its key and what is allowed, and all errors are told at once. It also writes such a
// file so that a power cut leaves the old or the new one.
//
// It knows no daemon's keys. A Config is made of plain structs whose fields have yaml tags; each package owns its own, with
// the defaults filled in by whoever calls Decode, and checks its values in a method
//
//	func (c Config) Validate() error
//
// which returns errors, joined, that begin with the key they are about: "width: 641 is odd". Decode calls Validate of every
// struct and finds the key's place; so a struct's Validate does not call that of the structs in it.
//
// Fields may be bool, integers, floats, strings and named strings, time.Duration ("1.5s"), anything with UnmarshalText,
// structs, pointers to structs, slices and maps with string keys. An integer with the tag unit:"bit/s" is written "2500k" or
// "2.5M". A type whose pointer has a method SetDefaults() gets its defaults there when it is an element of a list or map, or
// behind a pointer.
package config
