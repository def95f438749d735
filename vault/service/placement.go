package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// placement knows where an item can be put: which nodes serve it on a way, and the
// fields that the target site describes.
type placement struct {
	*core
}

// way is the two ends of a direction with the nodes that would serve it.
type way struct {
	from, to vault.End
	location string
}

// The names of the fields that the vault itself adds to those of the target site.
const (
	fieldMasterTarget  = "master_target"
	fieldProcessServer = "process_server"
	fieldRetention     = "retention_volume"
	fieldDatastore     = "datastore"
)

// nextDirection is the way that follows from where an item stands.
func nextDirection(it vault.Item) homeward.Direction {
	switch it.State {
	case vault.FailedOver, vault.Committed:
		return homeward.Direction{From: it.ActiveSite, To: otherSite(it)}
	}
	return it.Direction
}

// preselect chooses what an operator did not: what the item has, else the first
// ready node of the site, else the only datastore. What cannot be chosen stays empty.
func (p *placement) preselect(ctx context.Context, it vault.Item, d homeward.Direction, in vault.Input) (way, error) {
	w, err := p.serve(ctx, it, d, in)
	if in.Datastore != "" {
		w.to.Datastore = in.Datastore
	} else if w.to.Datastore == "" && err == nil {
		w.to.Datastore = p.onlyDatastore(ctx, it, w)
	}
	if in.Retention != "" {
		w.to.Retention = in.Retention
	}
	return w, err
}

// serve chooses the nodes of a way.
func (p *placement) serve(ctx context.Context, it vault.Item, d homeward.Direction, in vault.Input) (way, error) {
	w := way{from: *endOf(&it, d.From), to: *endOf(&it, d.To), location: in.Location}
	if w.location == "" {
		w.location = vault.OriginalLocation
	}
	for _, c := range []struct {
		at   *string
		asks string
		role pki.Role
		site string
	}{
		{&w.from.Agent, "", pki.Agent, d.From},
		{&w.from.ProcessServer, in.ProcessServer, pki.ProcessServer, d.From},
		{&w.to.MasterTarget, in.MasterTarget, pki.MasterTarget, d.To},
		{&w.to.Agent, "", pki.Agent, d.To},
	} {
		if c.asks != "" {
			*c.at = c.asks
		}
		if *c.at != "" {
			continue
		}
		nodes, err := p.nodesOf(ctx, c.role, c.site)
		if err != nil {
			return w, err
		}
		*c.at = firstReady(nodes)
	}
	return w, nil
}

func (p *placement) nodesOf(ctx context.Context, role pki.Role, site string) (nodes []vault.Node, err error) {
	for n, err := range p.store.Nodes.All(ctx, vault.Query{Site: site, Role: string(role)}) {
		if err != nil {
			return nil, err
		}
		if n.State != vault.NodeRevoked {
			nodes = append(nodes, p.registry.Live(n))
		}
	}
	return nodes, nil
}

func firstReady(nodes []vault.Node) string {
	for _, n := range nodes {
		if n.State == vault.NodeReady {
			return n.Name
		}
	}
	if len(nodes) == 1 {
		return nodes[0].Name
	}
	return ""
}

// check demands that the nodes of a way are what they are taken for.
func (p *placement) check(ctx context.Context, op string, w way) error {
	for _, c := range []struct {
		field, name string
		role        pki.Role
		site        string
	}{
		{"agent", w.from.Agent, pki.Agent, w.from.Site},
		{fieldProcessServer, w.from.ProcessServer, pki.ProcessServer, w.from.Site},
		{fieldMasterTarget, w.to.MasterTarget, pki.MasterTarget, w.to.Site},
	} {
		if err := p.checkNode(ctx, op, c.field, c.name, c.role, c.site); err != nil {
			return err
		}
	}
	return p.checkRetention(ctx, op, w.to)
}

// checkRetention demands that the volume of an end, if one is named, is one of its master
// target and can be used.
func (p *placement) checkRetention(ctx context.Context, op string, to vault.End) error {
	if to.Retention == "" {
		return nil
	}
	n, err := p.node(ctx, to.MasterTarget)
	if err != nil {
		return err
	}
	for _, v := range n.Health.Volumes {
		if v.Path != to.Retention {
			continue
		}
		if ok, rule, why := readiness.VolumeEligibility(v); !ok {
			return homeward.Errorf(op, homeward.Invalid, fieldRetention, "choose another one: 'homeward item placement' lists them", "volume %s is not eligible: %s (%s)", v.Path, why, rule)
		}
		return nil
	}
	return homeward.Errorf(op, homeward.Invalid, fieldRetention, "choose one that 'homeward item placement' lists; a new one appears with the next heartbeat (R112)",
		"master target %s has no volume %s", to.MasterTarget, to.Retention)
}

// checkNode demands a node of a role at a site.
func (p *placement) checkNode(ctx context.Context, op, field, name string, role pki.Role, site string) error {
	if name == "" {
		return homeward.Errorf(op, homeward.Invalid, field, fmt.Sprintf("enrol a %s at site %s, or name one", role, site), "site %s has no %s that could be chosen", site, role)
	}
	n, err := p.node(ctx, name)
	if err != nil {
		return homeward.Wrap(err, op, field+" "+name)
	}
	if n.Role != role || n.Site != site {
		return homeward.Errorf(op, homeward.Invalid, field, fmt.Sprintf("name a %s of site %s", role, site), "node %s is a %s of site %s", name, n.Role, n.Site)
	}
	if n.State == vault.NodeRevoked {
		return homeward.Errorf(op, homeward.Invalid, field, "name another one", "node %s is revoked", name)
	}
	return nil
}

// fields are the inputs of a way, described by its target site.
func (p *placement) fields(ctx context.Context, it vault.Item, w way) (fields []homeward.Field, err error) {
	targets, err := p.nodesOf(ctx, pki.MasterTarget, w.to.Site)
	if err != nil {
		return nil, err
	}
	processes, err := p.nodesOf(ctx, pki.ProcessServer, w.from.Site)
	if err != nil {
		return nil, err
	}
	fields = []homeward.Field{
		{Name: fieldMasterTarget, Label: "Master target (R39)", Demand: true, Options: nodeOptions(targets, w.to.MasterTarget)},
		{Name: fieldProcessServer, Label: "Process server (R39)", Demand: true, Options: nodeOptions(processes, w.from.ProcessServer)},
	}
	own, err := p.options(ctx, it, w)
	if err != nil {
		return nil, err
	}
	fields = append(fields, own...)
	return append(fields, homeward.Field{Name: fieldRetention, Label: "Retention volume (R41)", Options: p.volumes(targets, w.to.MasterTarget)}), nil
}

// options are the site's own fields. Where the disks exist, the datastore is
// demanded and ignored (R40).
func (p *placement) options(ctx context.Context, it vault.Item, w way) ([]homeward.Field, error) {
	site, err := p.roles.Site(w.to.Site)
	if err != nil {
		return nil, err
	}
	machine := homeward.Machine{Item: it.ID, Name: it.Name}
	if it.Record != nil {
		machine = it.Record.Machine
	}
	fields, err := site.Options(ctx, homeward.Direction{From: w.from.Site, To: w.to.Site}, machine)
	for i := range fields {
		if fields[i].Name == fieldDatastore && w.location == vault.OriginalLocation && len(w.to.Disks) > 0 {
			fields[i].Demand = true
			fields[i].Label += ", ignored: its disks exist (R40)"
		}
	}
	return fields, err
}

func nodeOptions(nodes []vault.Node, chosen string) (options []homeward.Option) {
	for _, n := range nodes {
		o := homeward.Option{Value: n.Name, Label: n.Name, Eligible: n.State == vault.NodeReady}
		if !o.Eligible {
			o.Why = fmt.Sprintf("it is %s (R34)", n.State)
		}
		options = append(options, o)
	}
	return preselected(options, chosen)
}

// preselected puts the chosen option first.
func preselected(options []homeward.Option, chosen string) []homeward.Option {
	slices.SortStableFunc(options, func(a, b homeward.Option) int {
		switch {
		case a.Value == b.Value:
			return 0
		case a.Value == chosen:
			return -1
		case b.Value == chosen:
			return 1
		}
		return 0
	})
	return options
}

// volumes are those of a master target; which are not eligible, and why (R103).
func (p *placement) volumes(targets []vault.Node, name string) (options []homeward.Option) {
	chosen := ""
	for _, n := range targets {
		if n.Name != name {
			continue
		}
		for _, v := range n.Health.Volumes {
			ok, rule, why := readiness.VolumeEligibility(v)
			o := homeward.Option{Value: v.Path, Label: fmt.Sprintf("%s (%s, %d bytes free)", v.Path, v.FSType, v.Free), Eligible: ok}
			if !ok {
				o.Why = strings.TrimSpace(why + " (" + rule + ")")
			}
			if v.Default && ok {
				chosen = v.Path
			}
			options = append(options, o)
		}
	}
	return preselected(options, chosen)
}

// chosen is what a way says of the inputs, for the rules.
func (p *placement) chosen(ctx context.Context, it vault.Item, w way) readiness.Chosen {
	now := p.now().UTC()
	c := readiness.Chosen{Location: w.location, Datastore: readiness.None[string](fromVault, now), Retention: readiness.None[string](fromVault, now)}
	fields, err := p.options(ctx, it, w)
	if err != nil {
		c.Options = readiness.NotKnown[[]homeward.Field]("site "+w.to.Site, err.Error())
	} else {
		c.Options = readiness.Is(fields, "site "+w.to.Site, now)
	}
	if store := w.to.Datastore; store != "" {
		c.Datastore = readiness.Is(store, fromVault, now)
	}
	if w.to.Retention != "" {
		c.Retention = readiness.Is(w.to.Retention, fromVault, now)
	}
	return c
}

// checkReprotect demands what a reprotect takes at its target site.
func (p *placement) checkReprotect(ctx context.Context, it vault.Item, d homeward.Direction, in vault.Input) error {
	w, err := p.preselect(ctx, it, d, in)
	if err != nil {
		return err
	}
	if err := p.check(ctx, "reprotect", w); err != nil {
		return err
	}
	if err := bound("reprotect", it, w); err != nil {
		return err
	}
	fields, err := p.options(ctx, it, w)
	if err != nil {
		return err
	}
	for _, f := range fields {
		if f.Name != fieldDatastore || !f.Demand || w.to.Datastore != "" {
			continue
		}
		return homeward.Errorf("reprotect", homeward.Invalid, fieldDatastore, "choose one: 'homeward item placement "+string(it.ID)+"'; it is ignored where the disks exist (R40)", "the site has several, and none is given")
	}
	return nil
}

// onlyDatastore is the one that can be meant where the site has no other.
func (p *placement) onlyDatastore(ctx context.Context, it vault.Item, w way) string {
	fields, err := p.options(ctx, it, w)
	if err != nil {
		return ""
	}
	for _, f := range fields {
		if f.Name != fieldDatastore {
			continue
		}
		only := ""
		for _, o := range f.Options {
			if !o.Eligible {
				continue
			}
			if only != "" {
				return ""
			}
			only = o.Value
		}
		return only
	}
	return ""
}

// both is an item with the nodes of both ways, as far as they can be chosen: a way is
// probed before it is needed.
func (p *placement) both(ctx context.Context, it vault.Item) (vault.Item, error) {
	for _, d := range []homeward.Direction{{From: it.Original.Site, To: it.Recovery.Site}, {From: it.Recovery.Site, To: it.Original.Site}} {
		w, err := p.serve(ctx, it, d, vault.Input{})
		if err != nil {
			return it, err
		}
		*endOf(&it, d.From), *endOf(&it, d.To) = w.from, w.to
	}
	return it, nil
}
