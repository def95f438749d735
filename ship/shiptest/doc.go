// Package shiptest is test support for sinks of deltas: [Run], the suite that
// every homeward.Sink passes, [Source], which makes chains of deltas, [Twin], a
// sink in memory that verifies and keeps what it gets, and [Wild], a transport
// that repeats, delays and reorders.
//
// Randomised tests print their seed and take HOMEWARD_SEED to replay.
package shiptest
