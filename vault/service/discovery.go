package service

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// discovery reads the inventories of sites, each once per Rhythm.Inventory, and holds
// them against what is protected.
type discovery struct {
	*core
	alerts *alerts
	busy   locks // by site: one reading at a time
	woken  bell  // a configuration server came or went
	// changed is told of a site that was found otherwise than it was.
	changed func(site string)
}

const (
	inventoryTimeout  = 60 * time.Second
	inventoriesAtOnce = 8
)

// lookEvery is how soon it is seen that a configuration server came or went, if nobody
// says so.
const lookEvery = 2 * time.Second

// run reads all sites until ctx ends.
func (d *discovery) run(ctx context.Context) {
	next := map[string]time.Time{}
	everyOr(ctx, min(lookEvery, d.rhythm.Inventory), d.woken, d.trouble("read inventories"), func(ctx context.Context) error {
		var names []string
		for s, err := range d.store.Sites.All(ctx, vault.Query{}) {
			if err != nil {
				return err
			}
			turned, err := d.turned(ctx, s)
			if err != nil {
				return err
			}
			if now := d.now(); turned || !now.Before(next[s.Name]) {
				next[s.Name] = now.Add(d.rhythm.Inventory)
				names = append(names, s.Name)
			}
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(inventoriesAtOnce)
		for _, name := range names {
			group.Go(func() error {
				if _, err := d.refresh(ctx, name); err != nil && ctx.Err() == nil {
					d.log.Info("a site's inventory was not read", "site", name, "error", err)
				}
				return nil
			})
		}
		return group.Wait()
	})
}

// turned reports whether a site's configuration server came or went since its
// inventory was read.
func (d *discovery) turned(ctx context.Context, s vault.Site) (bool, error) {
	name, err := d.serverOf(ctx, s.Name)
	if err != nil || name == "" {
		return false, err
	}
	n, err := d.node(ctx, name)
	return (n.State == vault.NodeReady) != s.Connected, err
}

// refresh reads one site now. A site that cannot be asked is marked so, its
// machines as unseen; nothing else changes.
func (d *discovery) refresh(ctx context.Context, name string) (vault.Site, error) {
	release, err := d.busy.hold(ctx, name)
	if err != nil {
		return vault.Site{}, err
	}
	defer release()
	before, err := d.store.Sites.Get(ctx, name)
	if err != nil {
		return vault.Site{}, err
	}
	at := d.now().UTC() // what changes from here on may not be listed yet
	asking, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	can, seen, err := d.ask(asking, name)
	if err != nil {
		return vault.Site{}, d.lost(ctx, name, err)
	}
	if err := d.enter(ctx, name, seen, at); err != nil {
		return vault.Site{}, err
	}
	server, err := d.serverOf(ctx, name)
	if err != nil {
		return vault.Site{}, err
	}
	now, err := d.store.Sites.Change(ctx, name, func(s *vault.Site) error {
		s.Node = server
		s.Connected, s.Seen, s.Why, s.Capabilities = true, at, "", &can
		return nil
	})
	if err == nil && !before.Connected {
		d.changed(name)
	}
	return now, err
}

// serverOf is the site's configuration server.
func (d *discovery) serverOf(ctx context.Context, site string) (string, error) {
	name := ""
	for n, err := range d.store.Nodes.All(ctx, vault.Query{Site: site, Role: string(pki.ConfigurationServer)}) {
		if err != nil {
			return "", err
		}
		if n.State == vault.NodeRevoked {
			continue
		}
		if now := d.registry.Live(n); now.State == vault.NodeReady {
			return n.Name, nil
		}
		name = n.Name
	}
	return name, nil
}

// refreshNodes asks all nodes of a site for a heartbeat: a volume that was added at a
// master target shows then (R112).
func (d *discovery) refreshNodes(ctx context.Context, site string) error {
	var group errgroup.Group
	group.SetLimit(inventoriesAtOnce)
	for n, err := range d.store.Nodes.All(ctx, vault.Query{Site: site}) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if n.State == vault.NodeRevoked {
			continue
		}
		group.Go(func() error {
			if _, err := d.registry.Refresh(ctx, n.Name); err != nil {
				d.log.Info("a node did not answer", "node", n.Name, "error", err) // its state says so
			}
			return nil
		})
	}
	return group.Wait()
}

func (d *discovery) ask(ctx context.Context, name string) (can homeward.Capabilities, seen []homeward.SiteMachine, err error) {
	site, err := d.roles.Site(name)
	if err == nil {
		can, err = site.Capabilities(ctx)
	}
	if err == nil {
		seen, err = site.Machines(ctx)
	}
	return can, seen, err
}

// lost notes why a site could not be asked, and passes the reason on.
func (d *discovery) lost(ctx context.Context, name string, why error) error {
	known, err := d.known(ctx, name)
	if err != nil {
		return err
	}
	err = d.store.Tx(ctx, func(ctx context.Context) error {
		for _, m := range unseen(known) {
			if err := d.store.Machines.Update(ctx, &m); err != nil {
				return err
			}
		}
		site, err := d.store.Sites.Get(ctx, name)
		if err != nil || !site.Connected && site.Why == why.Error() {
			return err
		}
		site.Connected, site.Why = false, why.Error()
		return d.store.Sites.Update(ctx, &site)
	})
	if err != nil {
		return err
	}
	d.changed(name)
	return why
}

// known are a site's machines as they are stored. Those that were listed when it was read
// last are not written each time: they were seen then.
func (d *discovery) known(ctx context.Context, site string) (known []vault.Machine, err error) {
	read, err := d.store.Sites.Get(ctx, site)
	if err != nil {
		return nil, err
	}
	for m, err := range d.store.Machines.All(ctx, vault.Query{Site: site}) {
		if err != nil {
			return nil, err
		}
		if m.Presence == vault.Present && read.Seen.After(m.Seen) {
			m.Seen = read.Seen
		}
		known = append(known, m)
	}
	return known, nil
}

// enter writes a whole inventory down, with the alerts that follow from it.
func (d *discovery) enter(ctx context.Context, site string, seen []homeward.SiteMachine, at time.Time) error {
	known, err := d.known(ctx, site)
	if err != nil {
		return err
	}
	items, err := d.protectedAt(ctx, site)
	if err != nil {
		return err
	}
	s := reconcile(site, known, seen, items, at)
	if err := d.store.Tx(ctx, func(ctx context.Context) error { return d.write(ctx, s, known) }); err != nil {
		return err
	}
	for _, m := range s.put {
		if err := d.alert(ctx, m); err != nil {
			return err
		}
	}
	for from := range s.moved {
		s.forgotten = append(s.forgotten, from)
	}
	for _, id := range s.forgotten { // nobody speaks of it any more
		if err := d.alert(ctx, vault.Machine{ID: id}); err != nil {
			return err
		}
	}
	if len(s.put)+len(s.moved) > 0 {
		d.changed(site)
	}
	return nil
}

func (d *discovery) write(ctx context.Context, s survey, known []vault.Machine) error {
	old := map[string]bool{}
	for _, m := range known {
		old[m.ID] = true
	}
	for from, to := range s.moved {
		if err := d.store.Machines.Delete(ctx, from); err != nil {
			return err
		}
		if err := d.follow(ctx, from, to); err != nil {
			return err
		}
	}
	for _, m := range s.put {
		var err error
		if old[m.ID] {
			err = d.store.Machines.Update(ctx, &m)
		} else {
			err = d.store.Machines.Insert(ctx, &m)
		}
		if err != nil {
			return err
		}
	}
	for _, id := range s.forgotten {
		if err := d.store.Machines.Delete(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// follow lets an item know its machine by the new id.
func (d *discovery) follow(ctx context.Context, from, to string) error {
	names, err := d.itemsWith(ctx, func(it vault.Item) bool { return it.Machine == from })
	if err != nil {
		return err
	}
	for _, id := range names {
		if _, err := d.store.Items.Change(ctx, id, func(it *vault.Item) error { it.Machine = to; return nil }); err != nil {
			return err
		}
	}
	return nil
}

func (d *discovery) alert(ctx context.Context, m vault.Machine) error {
	var now []vault.Alert
	if m.Item != "" {
		for _, f := range m.Findings {
			now = append(now, alertOf(f))
		}
	}
	return d.alerts.settle(ctx, fromInventory, "machine "+m.ID, now...)
}

// protectedAt is what is replicated of each machine of a site.
func (d *discovery) protectedAt(ctx context.Context, site string) (map[string]protectedMachine, error) {
	items := map[string]protectedMachine{}
	for it, err := range d.store.Items.All(ctx, vault.Query{}) {
		if err != nil {
			return nil, err
		}
		if it.Record == nil {
			continue
		}
		for _, end := range []vault.End{it.Original, it.Recovery} {
			if end.Site != site {
				continue
			}
			p := protectedMachine{item: it.ID, disks: it.Record.Machine.Disks, refs: end.Disks}
			if ref, known := it.Record.Refs[site]; known {
				items[machineID(site, ref)] = p
			}
			if site == it.Original.Site {
				items[it.Machine] = p
			}
		}
	}
	return items, nil
}
