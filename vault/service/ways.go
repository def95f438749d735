package service

import (
	"context"
	"iter"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/fleet"
)

// Ways are those that items need, or will: what the fleet probes.
func (s *Service) Ways(ctx context.Context) ([]fleet.Pair, error) {
	return fleet.PairsOf(s.everyItem(ctx))
}

// everyItem are all items with the nodes of both ways.
func (s *Service) everyItem(ctx context.Context) iter.Seq2[vault.Item, error] {
	return func(yield func(vault.Item, error) bool) {
		for it, err := range s.store.Items.All(ctx, vault.Query{}) {
			if err == nil {
				it, err = s.recoveries.placement.both(ctx, it)
			}
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}
