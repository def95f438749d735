package measure

import "context"

// Bench is what a figure is measured with.
type Bench struct {
	Full   bool   // false: quick, the whole of it under five minutes
	Smoke  bool   // only the least of everything, for a test that it works: seconds
	Rounds int    // of each contender in a series
	Seed   uint64 // of all that is random
	Dir    string // for images: on a file system with room; each figure makes its own directories below and removes them
	Memory string // the same in memory (tmpfs)
	Binary string // of homeward
	// Say tells whoever waits what is being done.
	Say func(format string, args ...any)
}

// Chapter is a figure that can be measured.
type Chapter struct {
	Name    string
	What    string        // a line, for the list
	Quick   bool          // part of the quick mode
	Needs   []Requirement // tools, besides those that it says are missing itself
	Measure func(ctx context.Context, b *Bench) (Figure, error)
}

// Requirement is a program, and the Debian package it comes in.
type Requirement struct {
	Program string
	Package string
}
