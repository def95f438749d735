package service

import (
	"context"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// conceive makes the item that an Enable asks for; it is not stored.
func (s *recoveries) conceive(ctx context.Context, req vault.ActionRequest) (vault.Item, error) {
	bad := func(field, fix, format string, args ...any) (vault.Item, error) {
		return vault.Item{}, homeward.Errorf("enable", homeward.Invalid, field, fix, format, args...)
	}
	if req.Machine == "" {
		return bad("machine", "give the id that 'homeward machine list' shows", "no machine is given")
	}
	m, err := s.store.Machines.Get(ctx, req.Machine)
	if err != nil {
		return vault.Item{}, err
	}
	if m.Item != "" {
		return vault.Item{}, homeward.Errorf("enable", homeward.Exists, "machine "+m.ID, "act on item "+string(m.Item), "item %s protects it", m.Item)
	}
	if m.Presence != vault.Present {
		return bad("machine", "connect its site, then refresh it", "machine %s is %s", m.ID, m.Presence)
	}
	if req.Input.Target == "" || req.Input.Target == m.Site {
		return bad("target_site", "name another site than the machine's", "%q", req.Input.Target)
	}
	if _, err := s.store.Sites.Get(ctx, req.Input.Target); err != nil {
		return vault.Item{}, err
	}
	policy, err := s.store.Policies.Get(ctx, req.Input.Policy)
	if err != nil {
		return vault.Item{}, err
	}
	if policy.Failback {
		return bad("policy", "name forward policy "+policy.Of, "%s is a failback policy", policy.Name)
	}
	machine, refs, err := s.replicable(ctx, m, req.Item)
	if err != nil {
		return vault.Item{}, err
	}
	it := vault.Item{ID: req.Item, Machine: m.ID, Name: machine.Name, State: vault.Enabling, Policy: policy.Name,
		Original:  vault.End{Site: m.Site, Agent: req.Input.Agent, Disks: refs},
		Recovery:  vault.End{Site: req.Input.Target},
		Direction: homeward.Direction{From: m.Site, To: req.Input.Target}, ActiveSite: m.Site, Test: vault.Test{State: vault.TestNone}}
	it.Replication.Priority = defaultPriority
	chosen, err := s.placement.preselect(ctx, it, it.Direction, req.Input)
	if err != nil {
		return it, err
	}
	it.Original, it.Recovery = chosen.from, chosen.to
	if it, err = s.placement.both(ctx, it); err != nil {
		return it, err
	}
	record := recovery.New(machine, policy.Settings, &recovery.Side{Name: m.Site, Disks: refs}, &recovery.Side{Name: req.Input.Target}, s.log).Snapshot()
	record.Refs = map[string]homeward.Ref{m.Site: m.Found.Ref}
	if reported := s.registry.MaxGeneration(req.Item); !reported.IsZero() { // nodes remember an item of this id
		record.Next = homeward.Generation{Number: reported.Number + 1, ID: homeward.NewID()}
	}
	it.Record = &record
	return it, nil
}

// defaultPriority is the middle of 0 (first) to 9.
const defaultPriority = 5

// replicated is a machine with the disks that are replicated, and what backs them.
func replicated(m homeward.SiteMachine, item homeward.ItemID) (homeward.Machine, []string) {
	machine := m.Machine
	machine.Item = item
	if machine.Name == "" {
		machine.Name = string(item)
	}
	backing := map[homeward.DiskID]homeward.Attachment{}
	for _, a := range m.Disks {
		backing[a.Disk] = a
	}
	var disks []homeward.Disk
	var refs []string
	for _, d := range machine.Disks {
		a, attached := backing[d.ID]
		if !attached || a.Temporary {
			continue
		}
		disks, refs = append(disks, d), append(refs, a.Ref)
	}
	machine.Disks = disks
	return machine, refs
}

// replicable is a machine with what backs its disks, asked of the site now: the
// inventory may be older than the end of an earlier protection.
func (s *recoveries) replicable(ctx context.Context, m vault.Machine, item homeward.ItemID) (homeward.Machine, []string, error) {
	site, err := s.roles.Site(m.Site)
	if err != nil {
		return homeward.Machine{}, nil, err
	}
	now, err := site.Machine(ctx, m.Found.Ref)
	if err != nil {
		return homeward.Machine{}, nil, err
	}
	if i := slices.IndexFunc(now.Disks, func(a homeward.Attachment) bool { return !a.Temporary && !ownRef(a.Ref) }); i >= 0 {
		return homeward.Machine{}, nil, homeward.Errorf("enable", homeward.Invalid, "machine", "shut it down, and disable what protected it once more",
			"its disk %s is an agent's export: %s", now.Disks[i].Disk, now.Disks[i].Ref)
	}
	m.Found.Disks = now.Disks
	machine, refs := replicated(m.Found, item)
	return machine, refs, machine.Validate()
}
