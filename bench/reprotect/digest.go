package reprotect

import (
	"context"

	"github.com/homeward-dr/homeward/bench/measure"
)

func (r *rig) digests(ctx context.Context, o *ours, f *measure.Figure) error { return nil }
