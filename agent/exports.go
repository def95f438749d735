package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/pki"
)

// dirtyContext is the meta context that shows what is not applied yet.
const dirtyContext = "homeward:dirty"

// exportName carries the generation under which the capture began: a client of an
// older one can never come back, because its name is never served again (I-6).
func exportName(item homeward.ItemID, disk homeward.DiskID, g homeward.Generation) string {
	return fmt.Sprintf("%s.%s.%d-%s", item, disk, g.Number, g.ID.String()[:8])
}

func (it *item) exportName(disk int) string {
	r := it.rec
	return exportName(it.id, r.Request.Machine.Disks[disk].ID, r.capture())
}

// export serves the disks of an open item to the guest; with it.mu held.
func (it *item) export() error {
	if it.exported {
		return nil
	}
	for i, d := range it.rec.Request.Machine.Disks {
		err := it.host.server.Add(nbd.Export{
			Name:        it.exportName(i),
			Disk:        it.machine.Disk(i),
			Exclusive:   true,
			Admit:       it.mayAttach,
			Description: fmt.Sprintf("disk %s of %s", d.ID, it.rec.Request.Machine.Name),
			Contexts:    map[string]nbd.Context{dirtyContext: dirtyExtents{changed: it.changedNow(i)}},
		})
		if err != nil && homeward.KindOf(err) != homeward.Exists {
			return err
		}
	}
	it.exported = true
	return nil
}

// mayAttach refuses hosts that the item was not prepared for. A unix socket is guarded
// by its directory.
func (it *item) mayAttach(client *tls.ConnectionState) error {
	hosts := it.snapshot().Request.Hosts
	if client == nil || len(hosts) == 0 {
		return nil
	}
	peer, err := pki.PeerOf(client)
	if err != nil {
		return err
	}
	if !slices.Contains(hosts, peer.Name) {
		return homeward.Errorf("attach disk", homeward.Forbidden, string(it.id),
			"run the machine at a host of its own site; for a configuration server that was enrolled since, pause the item and resume it",
			"%s may not attach its disks", peer)
	}
	return nil
}

// withdraw ends the guest's access: when it returns nil, no request touches the
// disks and none will, under these names.
func (it *item) withdraw(ctx context.Context) error {
	it.mu.Lock()
	names := make([]string, 0, len(it.rec.Request.Machine.Disks))
	for i := range it.rec.Request.Machine.Disks {
		names = append(names, it.exportName(i))
	}
	it.exported = false
	it.mu.Unlock()
	var errs []error
	for _, name := range names {
		if err := it.host.server.Withdraw(ctx, name, true); homeward.KindOf(err) != homeward.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// clients is how many disks of the item a guest is connected to.
func (it *item) clients() int {
	it.mu.Lock()
	defer it.mu.Unlock()
	n := 0
	if it.exported {
		for i := range it.rec.Request.Machine.Disks {
			n += it.host.server.Clients(it.exportName(i))
		}
	}
	return n
}

// uri is where the guest attaches a disk.
func (h *host) uri(export string) string {
	u := nbd.URI{Network: "unix", Address: h.address, Export: export}
	if h.cfg.TLS != nil {
		u.Network, u.TLS, u.User = "tcp", true, h.cfg.Name
	}
	return u.String()
}

// changedNow tells what is not applied, for as long as the capture that is open
// now is.
func (it *item) changedNow(disk int) func() *block.Map {
	machine, backlog := it.machine, it.backlog
	return func() *block.Map {
		m := machine.Dirty(disk)
		m.Or(machine.Suspect(disk))
		backlog.addTo(disk, m)
		return m
	}
}

// dirtyExtents shows a map as a meta context.
type dirtyExtents struct {
	changed func() *block.Map
}

// Extents of the map as of now; flag 1 is dirty.
func (d dirtyExtents) Extents(off, n int64) iter.Seq2[nbd.Extent, error] {
	return func(yield func(nbd.Extent, error) bool) {
		end := off + n
		for run := range d.changed().Runs(off / block.Size) {
			from, to := max(run.Start*block.Size, off), min((run.Start+run.Count)*block.Size, end)
			if from >= end {
				break
			}
			if from > off && !yield(nbd.Extent{Len: from - off}, nil) {
				return
			}
			if !yield(nbd.Extent{Len: to - from, Flags: 1}, nil) {
				return
			}
			off = to
		}
		if off < end {
			yield(nbd.Extent{Len: end - off}, nil)
		}
	}
}
