package reprotect

import (
	"context"

	"github.com/homeward-dr/homeward/bench/measure"
)

func (r *rig) bulk(ctx context.Context, f *measure.Figure) error { return nil }
