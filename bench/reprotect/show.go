package reprotect

import "github.com/homeward-dr/homeward/bench/measure"

const what = ``

func present(f *measure.Figure, b *measure.Bench) {}
