// Package lint holds the rules of this source tree as tests, each with its reason beside it: import direction, package
// docs, names, file lengths, words that have no place here. It contains no product code and nothing imports it.
package lint
