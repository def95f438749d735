package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// retained tells whether a machine kept its addresses when it failed over, by the
// network cards of its two sides (R55, R56). While it runs at home there is no other
// side: then the cards of the machine say whether there is anything that could be kept.
func (g *gatherer) retained(ctx context.Context, it vault.Item) (readiness.Value[bool], error) {
	here, err := g.cards(ctx, it, it.ActiveSite)
	if err != nil {
		return readiness.Value[bool]{}, err
	}
	there, err := g.cards(ctx, it, otherSite(it))
	if err != nil {
		return readiness.Value[bool]{}, err
	}
	return keptAddresses(here, there), nil
}

func (g *gatherer) cards(ctx context.Context, it vault.Item, site string) (readiness.Value[[]homeward.NIC], error) {
	m, err := g.store.Machines.Get(ctx, machineAtSite(it, site))
	switch {
	case homeward.KindOf(err) == homeward.NotFound:
		return readiness.None[[]homeward.NIC]("site "+site, g.now().UTC()), nil
	case err != nil:
		return readiness.Value[[]homeward.NIC]{}, err
	}
	return readiness.Is(m.Found.Machine.NICs, "site "+site, m.Seen), nil
}

// keptAddresses compares cards: a machine without any, on either side, kept none.
func keptAddresses(here, there readiness.Value[[]homeward.NIC]) readiness.Value[bool] {
	if here.Standing != readiness.Known {
		return readiness.NotKnown[bool](here.Source, "the machine's network cards are not known")
	}
	if len(here.V) == 0 || there.Standing == readiness.Known && len(there.V) == 0 {
		return readiness.Is(false, here.Source, here.At)
	}
	if there.Standing != readiness.Known {
		return readiness.NotKnown[bool](here.Source, "there is no machine at the other site to compare it with")
	}
	told := false
	for _, a := range here.V {
		for _, b := range there.V {
			if a.Address == "" || b.Address == "" {
				continue
			}
			if told = true; a.Address == b.Address {
				return readiness.Is(true, here.Source, here.At)
			}
		}
	}
	if !told {
		return readiness.NotKnown[bool](here.Source, "the sites do not tell the addresses of their machines")
	}
	return readiness.Is(false, here.Source, here.At)
}
