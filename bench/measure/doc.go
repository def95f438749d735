// Package measure is how figures are taken: contenders in turns on the same machine,
// each run checked for a right answer, medians with what they lie between, and
// ratios of runs that followed each other. A Result is everything that was found,
// as JSON; package report makes tables and plots of it.
package measure
