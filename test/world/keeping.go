package world

import (
	"context"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// CreateDisk makes a medium that is all zero.
func (h *Hypervisor) CreateDisk(_ context.Context, key string, d homeward.Disk, _ string) (homeward.Operation, error) {
	ref := "medium:/new/" + string(d.ID)
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	if h.site.media[ref] == nil {
		h.site.media[ref] = &Medium{ref: ref, disk: powerloss.NewDisk(d.Size)}
	}
	return done(key, ref)
}

// DeleteDisk removes a medium.
func (h *Hypervisor) DeleteDisk(_ context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	delete(h.site.media, ref.Native)
	return done(key, ref.Native)
}

// Has tells whether the site has a disk.
func (s *Site) Has(ref string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.media[ref] != nil
}

// Options are two networks, one of them isolated.
func (h *Hypervisor) Options(context.Context, homeward.Direction, homeward.Machine) ([]homeward.Field, error) {
	return []homeward.Field{{Name: "network", Label: "Network", Options: []homeward.Option{
		{Value: "production", Label: "production", Why: "it is production's"},
		{Value: "isolated", Label: "isolated", Eligible: true},
	}}}, nil
}

// Guard keeps a machine from being powered on.
func (h *Hypervisor) Guard(_ context.Context, g homeward.Guard) error {
	return h.changeGuards(g, func(gs []homeward.Guard) []homeward.Guard { return append(without(gs, g), g) })
}

// Unguard releases an owner's guard.
func (h *Hypervisor) Unguard(_ context.Context, g homeward.Guard) error {
	return h.changeGuards(g, func(gs []homeward.Guard) []homeward.Guard { return without(gs, g) })
}

func (h *Hypervisor) changeGuards(g homeward.Guard, edit func([]homeward.Guard) []homeward.Guard) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find("guard", g.Ref)
	if err == nil {
		m.guards = edit(m.guards)
	}
	return err
}

func without(gs []homeward.Guard, g homeward.Guard) []homeward.Guard {
	return slices.DeleteFunc(slices.Clone(gs), func(o homeward.Guard) bool { return o.Kind == g.Kind && o.Owner == g.Owner })
}

// Intrude lets a machine look powered on, though guarded, until it is powered off: as
// a person at the hypervisor's console can. It has no disks to run on.
func (h *Hypervisor) Intrude(item homeward.ItemID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.machines[string(item)].forced = true
}
