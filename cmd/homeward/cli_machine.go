package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

var machines = resource[vault.Machine]{
	noun: "machine", events: []string{"machine", "item"}, filters: []string{"site"}, list: vault.Vault.Machines,
	get:     findMachine,
	key:     func(m vault.Machine) string { return m.ID },
	heading: []any{"MACHINE", "NAME", "SITE", "POWER", "DISKS", "SIZE", "PRESENCE", "PROTECTED AS"},
	row: func(m vault.Machine) []any {
		return []any{m.ID, m.Found.Machine.Name, m.Site, m.Found.Power, len(m.Found.Disks), size(machineSize(m)), m.Presence, m.Item}
	},
	show: showMachine,
}

func machineSize(m vault.Machine) (n int64) {
	for _, d := range m.Found.Machine.Disks {
		n += d.Size
	}
	return n
}

// findMachine takes an id, or the name or native id that only one machine has.
func findMachine(v vault.Vault, ctx context.Context, name string) (vault.Machine, error) {
	if strings.Contains(name, "/") {
		return v.Machine(ctx, name)
	}
	var found []vault.Machine
	for m, err := range everyOne(ctx, v, vault.Query{}, vault.Vault.Machines) {
		if err != nil {
			return vault.Machine{}, err
		}
		if m.Found.Machine.Name == name || m.Found.Ref.Native == name {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return vault.Machine{}, homeward.Errorf("find machine", homeward.NotFound, name, "see 'homeward machine list'; 'homeward site refresh' reads an inventory anew", "no site has it")
	}
	ids := make([]string, len(found))
	for i, m := range found {
		ids[i] = m.ID
	}
	slices.Sort(ids)
	return vault.Machine{}, homeward.Errorf("find machine", homeward.Invalid, name, "give one of "+strings.Join(ids, ", "), "%d machines have this name", len(found))
}

func showMachine(r *remote, m vault.Machine) error {
	b := m.Found.Machine
	if err := r.details("machine", m.ID, "name", b.Name, "site", m.Site, "presence", m.Presence, "seen", when(m.Seen), "power", m.Found.Power,
		"system", strings.TrimSpace(b.OSFamily+" "+b.OSVersion), "snapshots", snapshots(m), "protected as", m.Item, "console", m.Found.Console); err != nil {
		return err
	}
	rows := [][]any{{"DISK", "SIZE", "AT", "FLAGS"}}
	sizes := map[homeward.DiskID]int64{}
	for _, d := range b.Disks {
		sizes[d.ID] = d.Size
	}
	for _, d := range m.Found.Disks {
		var flags []string
		for _, f := range []struct {
			is   bool
			name string
		}{{d.Temporary, "temporary"}, {d.Shared, "shared"}, {d.RDM, "rdm"}, {d.Encrypted, "encrypted"}, {d.ReadOnly, "read-only"}} {
			if f.is {
				flags = append(flags, f.name)
			}
		}
		rows = append(rows, []any{d.Disk, size(sizes[d.Disk]), d.Ref, words(flags)})
	}
	if err := r.section("Disks", rows); err != nil {
		return err
	}
	guards := [][]any{{"GUARD", "BY", "WHY"}}
	for _, g := range m.Found.Guards {
		guards = append(guards, []any{g.Kind, g.Owner, g.Reason})
	}
	if err := r.section("Guards", guards); err != nil {
		return err
	}
	return r.section("Findings", findingRows(m.Findings, false))
}

func machineCommands(r *remote) *cobra.Command {
	return group("machine", "What was found at the sites",
		machines.listCommand(r, "List the machines"), machines.showCommand(r, "MACHINE", "Show a machine, by id or name"))
}

// snapshots of a machine, as its site told.
func snapshots(m vault.Machine) string {
	if m.Found.Snapshots == nil {
		return "not known"
	}
	return strconv.Itoa(*m.Found.Snapshots)
}
