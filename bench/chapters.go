package main

import (
	"github.com/homeward-dr/homeward/bench/capture"
	"github.com/homeward-dr/homeward/bench/crowd"
	"github.com/homeward-dr/homeward/bench/example"
	"github.com/homeward-dr/homeward/bench/growth"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/recovery"
	"github.com/homeward-dr/homeward/bench/reprotect"
)

// chapters are what is measured, in the order of the document.
func chapters() []measure.Chapter {
	return []measure.Chapter{capture.Chapter(), reprotect.Chapter(), recovery.Chapter(), example.Chapter(), growth.Chapter(), crowd.Chapter()}
}
