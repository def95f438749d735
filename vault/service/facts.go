package service

import (
	"context"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/readiness"
)

// gatherer finds out the facts that the rules ask for: each is known, absent or
// unknown, with who said so and when. It asks the store, which holds what nodes and
// sites told last; only the options of a placement are asked of the site itself.
type gatherer struct {
	*core
	monitor   *monitor
	placement *placement
}

const fromVault = "vault"

// facts are those about an item, with what would be chosen for its next way.
func (g *gatherer) facts(ctx context.Context, it vault.Item, in vault.Input) (readiness.Facts, error) {
	g.monitor.overlay(&it)
	now := g.now().UTC()
	f := readiness.Facts{Now: now, Version: g.version, Item: it,
		Group: readiness.None[readiness.Group](fromVault, now),
		Need:  readiness.None[int64](fromVault, now)}
	from, to := readiness.EndsOf(it)
	way, err := g.placement.preselect(ctx, it, homeward.Direction{From: from.Site, To: to.Site}, in)
	if err != nil {
		return f, err
	}
	if it.Record != nil {
		f.Machine = readiness.Is(it.Record.Machine, fromVault, it.Changed)
	}
	for _, fill := range []func(context.Context) error{
		func(ctx context.Context) (err error) { f.From, err = g.site(ctx, from.Site); return err },
		func(ctx context.Context) (err error) { f.To, err = g.site(ctx, to.Site); return err },
		func(ctx context.Context) (err error) { f.Running, err = g.machineAt(ctx, it, from.Site); return err },
		func(ctx context.Context) (err error) { f.Old, err = g.machineAt(ctx, it, to.Site); return err },
		func(ctx context.Context) (err error) { f.Retained, err = g.retained(ctx, it); return err },
		func(ctx context.Context) error { return g.nodes(ctx, &f, way) },
		func(ctx context.Context) error { return g.policy(ctx, &f) },
	} {
		if err := fill(ctx); err != nil {
			return f, err
		}
	}
	f.Chosen = g.placement.chosen(ctx, it, way)
	return f, nil
}

func (g *gatherer) site(ctx context.Context, name string) (readiness.Site, error) {
	s := readiness.Site{Name: name}
	stored, err := g.store.Sites.Get(ctx, name)
	if err != nil {
		return s, err
	}
	s.Connected = readiness.Is(stored.Connected, fromVault, g.now().UTC())
	if stored.Capabilities != nil {
		s.Capabilities = readiness.Is(*stored.Capabilities, "site "+name, stored.Seen)
	} else {
		s.Capabilities = readiness.NotKnown[homeward.Capabilities]("site "+name, "it has never told")
	}
	return s, nil
}

// machineAt is what a site last said of the item's machine there.
func (g *gatherer) machineAt(ctx context.Context, it vault.Item, site string) (readiness.MachineAt, error) {
	source := "site " + site
	id := machineAtSite(it, site)
	if id == "" {
		return noMachine(source, g.now().UTC()), nil
	}
	m, err := g.store.Machines.Get(ctx, id)
	if homeward.KindOf(err) == homeward.NotFound {
		return g.unlisted(ctx, it, site)
	}
	if err != nil {
		return readiness.MachineAt{}, err
	}
	at := readiness.MachineAt{Presence: readiness.Is(m.Presence, source, m.Seen)}
	if m.Presence == vault.Gone {
		gone := noMachine(source, m.Seen)
		gone.Presence = at.Presence
		return gone, nil
	}
	if m.Presence == vault.Unseen {
		why := "the site cannot be asked; it was last seen " + m.Seen.Format(time.RFC3339)
		at.Power = readiness.NotKnown[homeward.PowerState](source, why)
		at.Guards = readiness.NotKnown[[]homeward.Guard](source, why)
		at.Snapshots = readiness.NotKnown[int](source, why)
		at.Attachments = readiness.NotKnown[[]homeward.Attachment](source, why)
		return at, nil
	}
	at.Power = readiness.Is(m.Found.Power, source, m.Seen)
	at.Guards = readiness.Is(m.Found.Guards, source, m.Seen)
	at.Attachments = readiness.Is(m.Found.Disks, source, m.Seen)
	at.Snapshots, err = g.snapshots(ctx, site, m)
	return at, err
}

// unlisted is a machine that the vault has no record of: there is none if the site
// was read whole since the item last changed; else nobody knows.
func (g *gatherer) unlisted(ctx context.Context, it vault.Item, site string) (readiness.MachineAt, error) {
	stored, err := g.store.Sites.Get(ctx, site)
	if err != nil || stored.Connected && stored.Seen.After(it.Changed) {
		return noMachine("site "+site, stored.Seen), err
	}
	return readiness.MachineAt{}, nil
}

// snapshots of a machine: what its site tells; absent where the site has none at all.
// A configuration server of the version before does not tell.
func (g *gatherer) snapshots(ctx context.Context, site string, m vault.Machine) (readiness.Value[int], error) {
	source := "site " + site
	if m.Found.Snapshots != nil && *m.Found.Snapshots >= 0 {
		return readiness.Is(*m.Found.Snapshots, source, m.Seen), nil
	}
	stored, err := g.store.Sites.Get(ctx, site)
	if err != nil {
		return readiness.Value[int]{}, err
	}
	if stored.Capabilities != nil && stored.Capabilities.Lacks["Snapshot"] != "" {
		return readiness.None[int](source, m.Seen), nil
	}
	return readiness.NotKnown[int](source, "it does not tell the snapshots of a machine"), nil
}

// hostSnapshots are those of the machine that a node runs in, which it names by the
// UUID that its firmware tells. Absent: its site has no snapshots, or it is none of the
// site's machines.
func (g *gatherer) hostSnapshots(ctx context.Context, n vault.Node) (readiness.Value[int], error) {
	source := "site " + n.Site
	site, err := g.store.Sites.Get(ctx, n.Site)
	switch {
	case err != nil:
		return readiness.Value[int]{}, err
	case site.Capabilities != nil && site.Capabilities.Lacks["Snapshot"] != "":
		return readiness.None[int](source, site.Seen), nil
	case n.Health.Machine == "":
		return readiness.NotKnown[int]("node "+n.Name, "it cannot tell which machine it runs in"), nil
	}
	for m, err := range g.store.Machines.All(ctx, vault.Query{Site: n.Site}) {
		switch {
		case err != nil:
			return readiness.Value[int]{}, err
		case !strings.EqualFold(m.Found.Ref.UUID, n.Health.Machine) || m.Presence == vault.Gone:
		case m.Presence == vault.Unseen:
			return readiness.NotKnown[int](source, "the site cannot be asked"), nil
		default:
			return g.snapshots(ctx, n.Site, m)
		}
	}
	if !site.Connected {
		return readiness.NotKnown[int](source, "the site cannot be asked"), nil
	}
	return readiness.None[int](source, site.Seen), nil
}

func noMachine(source string, at time.Time) readiness.MachineAt {
	return readiness.MachineAt{Presence: readiness.None[vault.Presence](source, at), Power: readiness.None[homeward.PowerState](source, at),
		Guards: readiness.None[[]homeward.Guard](source, at), Snapshots: readiness.None[int](source, at),
		Attachments: readiness.None[[]homeward.Attachment](source, at)}
}

// machineAtSite is the id of the item's machine at one of its sites; empty: none
// was ever made there.
func machineAtSite(it vault.Item, site string) string {
	if it.Record != nil {
		if ref, known := it.Record.Refs[site]; known {
			return machineID(site, ref)
		}
	}
	if site == it.Original.Site {
		return it.Machine
	}
	return ""
}

func (g *gatherer) nodes(ctx context.Context, f *readiness.Facts, w way) (err error) {
	nodes := map[string]vault.Node{}
	for _, role := range []struct {
		name string
		at   *readiness.Node
	}{{w.from.Agent, &f.Agent}, {w.from.ProcessServer, &f.ProcessServer}, {w.to.MasterTarget, &f.MasterTarget}} {
		if role.name == "" {
			continue
		}
		n, err := g.node(ctx, role.name)
		if err != nil && homeward.KindOf(err) != homeward.NotFound {
			return err
		}
		nodes[role.name] = n
		*role.at = nodeFacts(role.name, n, g.now().UTC())
	}
	if mt := nodes[w.to.MasterTarget]; mt.Name != "" {
		if f.MasterTarget.Snapshots, err = g.hostSnapshots(ctx, mt); err != nil {
			return err
		}
	}
	f.AgentToProcess = probeOf(nodes[w.from.Agent], w.from.ProcessServer)
	f.ProcessToMT = probeOf(nodes[w.from.ProcessServer], w.to.MasterTarget)
	return nil
}

// nodeFacts are what is known of a node; the zero node is not known at all.
func nodeFacts(name string, n vault.Node, now time.Time) readiness.Node {
	f := readiness.Node{Name: name, Site: n.Site}
	if n.Name == "" {
		return f
	}
	source, at := "node "+name, n.Heartbeat
	f.State = readiness.Is(n.State, fromVault, now)
	f.Since = readiness.Is(n.Enrolled, fromVault, now)
	f.Addresses = readiness.Is(n.Addresses, fromVault, now)
	f.Expires = readiness.Told(n.Expires, fromVault, now)
	f.Version = readiness.Told(n.Version, source, at)
	if at.IsZero() {
		return f
	}
	f.Skew = readiness.Is(n.Skew, source, at)
	f.OSFamily = readiness.Told(n.Health.OSFamily, source, at)
	f.OSVersion = readiness.Told(n.Health.OSVersion, source, at)
	f.Disks = readiness.Is(n.Health.Disks, source, at)
	f.Volumes = readiness.Is(n.Health.Volumes, source, at)
	return f
}

// probeOf is a node's newest probe of a peer.
func probeOf(n vault.Node, peer string) readiness.Value[homeward.ProbeReport] {
	for _, r := range n.Reachables {
		if r.Peer == peer {
			return readiness.Is(r, "node "+n.Name, r.At)
		}
	}
	return readiness.NotKnown[homeward.ProbeReport]("node "+n.Name, "it has not probed "+peer+" yet")
}

func (g *gatherer) policy(ctx context.Context, f *readiness.Facts) error {
	p, err := g.store.Policies.Get(ctx, readiness.BackPolicy(f.Item))
	switch homeward.KindOf(err) {
	case "":
		f.Policy = readiness.Is(p, fromVault, f.Now)
	case homeward.NotFound:
		f.Policy = readiness.None[vault.Policy](fromVault, f.Now)
	default:
		return err
	}
	return nil
}
