package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// A running side that is lost while the standby side synchronizes leaves there what was
// there before: the branch, and older points. A failover to one of them interrupts the
// synchronization: what it had still to do stays in Record.Interrupted. A cancel goes on
// with it; the next reprotect, the other way round, compares what it had not compared.

// mayFailOver allows what mayRaise does, and an item that synchronizes after a reprotect
// to go to a point that stands at the standby side already.
func (it *Item) mayFailOver(ctx context.Context, point homeward.Position) error {
	if it.State != Synchronizing || point.IsZero() {
		return it.mayRaise(opFailOver, point)
	}
	if it.resumes(opFailOver, point) {
		return nil
	}
	if it.List.Op != opFailOver && !it.older() {
		return homeward.Errorf(opFailOver, homeward.Conflict, "item "+string(it.ID()),
			"wait until the first recovery point of this direction stands (R3)", "the standby side held nothing before this synchronization (%s)", it.List.Op)
	}
	list, err := it.Standby.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
	if err != nil {
		return err
	}
	for _, p := range list.Points {
		if p.Position == point && p.Mark.Kind.Bootable() {
			return nil
		}
	}
	return homeward.Errorf(opFailOver, homeward.NotFound, point.String(), "choose a bootable one from the list of points", "no such point of %s", it.ID())
}

// interrupt keeps what a synchronization had still to do, as a failover gives it up. One
// that was led to another master target meanwhile does not know that any more: all is
// compared.
func (it *Item) interrupt() {
	list := it.List
	switch {
	case it.State == Synchronizing && list.Op == opReprotect:
	case it.State == Synchronizing && list.Op == opReassociate:
		list = Unfinished{Op: opReprotect, Next: list.Next, Done: map[string]bool{}, Began: list.Began, Differ: it.noDifferences()}
		list.Differ.suspectAll(errStrayed.Error())
	default:
		return
	}
	it.Interrupted = &list
}

// goOn ends a cancel: the item is what it was before the failover. The capture that
// the cancel began counts what it sends from zero.
func (it *Item) goOn() error {
	if it.Interrupted == nil {
		return it.end(Protected)
	}
	it.State, it.List, it.Interrupted = Synchronizing, *it.Interrupted, nil
	it.List.Before = homeward.CaptureReport{}
	return it.save()
}

// Uncompared are blocks in which the sides may differ and that only this list knows of,
// because it was to compare them and has not: no agent has them in its map.
func (u *Unfinished) Uncompared() (all []homeward.DiskChanges) {
	if u == nil || u.Differ == nil || u.Done[compareStep] {
		return nil
	}
	for i := range u.Differ.disks {
		d := &u.Differ.disks[i]
		c := changed(d.disk.ID, d.suspect)
		all = append(all, homeward.DiskChanges{Disk: d.disk.ID, Suspect: c.Changed, SuspectBytes: c.ChangedBytes, Reasons: d.reasons})
	}
	return all
}
