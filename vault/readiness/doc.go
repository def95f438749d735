// Package readiness answers "what stands in the way?": the rules of
// docs/rules.md as pure checks over facts. It does no I/O and reads no clock.
//
// Whoever asks gathers the Facts, each a Value that is known, known to be absent,
// or unknown, with where it comes from and when it was seen. Check answers
// findings, ScoreOf sums them up.
//
// A rule is a row of Rules: its number in the checklist of the product that
// Homeward takes its words from (R1 to R171), or H and a number where it is our
// own. Catalogue lists all of R1 to R171, also those that no check is for, with
// where each is kept; docs/rules.md is generated from it.
package readiness
