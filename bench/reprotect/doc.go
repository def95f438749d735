// Package reprotect measures the way back: two sites hold the same disk but for what
// one of them wrote since, and the other is to follow again. How much travels, how
// long it takes, and what it costs on each side, by Homeward and by what else is used
// for that.
//
// Every contender finds the same state (rig, pair, ours): a disk at the source, an
// older copy of it at the target, and a change between the two that its own means
// could watch, if it has any. Making that state is not in the time; a run ends when
// the target's copy is durable, and is followed by a comparison of both, byte by byte.
package reprotect
