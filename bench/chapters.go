package main

import (
	"github.com/homeward-dr/homeward/bench/capture"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/recovery"
)

// chapters are what is measured, in the order of the document.
func chapters() []measure.Chapter {
	return []measure.Chapter{capture.Chapter(), recovery.Chapter()}
}
