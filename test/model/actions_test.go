package model

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// write lets the guest write for a while.
func (k *walker) write() {
	k.do("write", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil {
			return err
		}
		g := k.guest()
		g.Write()
		return g.AwaitWrites(ctx, g.Done()+int64(20+k.rng.IntN(200)))
	})
}

// cut makes a point and looks whether it holds everything that was answered before.
func (k *walker) cut() {
	k.do("cut", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil { // a power loss took a machine back: it has to see to what
			return err
		}
		from := k.w.Clock.Tick()
		report, err := k.it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: k.it.ID(), Kind: homeward.MarkCrash})
		if err != nil {
			return err
		}
		to := k.w.Clock.Tick()
		if err := k.pointWithin(ctx, report.Position, from, to); err != nil {
			return err
		}
		k.since = from
		return nil
	})
}

// pointWithin checks that a point is a state of between two instants.
func (k *walker) pointWithin(ctx context.Context, at homeward.Position, from, to int64) error {
	seen, err := k.w.CheckPoint(ctx, k.it.Standby, k.it.ID(), homeward.Point{Position: at})
	if err != nil {
		return err
	}
	return world.Between(from, to, seen)
}

// cutGroup makes a point of all machines at one instant.
func (k *walker) cutGroup() {
	k.do("cut group", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil {
			return err
		}
		for _, it := range k.w.Items { // a leg that has just begun has to catch up first
			if _, err := it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash}); err != nil {
				return err
			}
		}
		from := k.w.Clock.Tick()
		reports, err := recovery.CutGroup(ctx, k.w.Items)
		if err != nil {
			return err
		}
		to := k.w.Clock.Tick()
		var states []world.Observed
		for i, it := range k.w.Items {
			p, err := k.awaitApplied(ctx, it, reports[i].Position.Cut)
			if err != nil {
				return err
			}
			seen, err := k.w.CheckPoint(ctx, it.Standby, it.ID(), p)
			if err != nil {
				return err
			}
			states = append(states, seen)
		}
		if err := world.Between(from, to, states...); err != nil {
			return fmt.Errorf("the group's point: %w", err)
		}
		return nil
	})
}

// awaitApplied returns when the point of a cut is there.
func (k *walker) awaitApplied(ctx context.Context, it *recovery.Item, cut homeward.ID) (homeward.Point, error) {
	for ctx.Err() == nil {
		list, err := it.Standby.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
		if err != nil && !homeward.Retryable(err) {
			return homeward.Point{}, err
		}
		for _, p := range list.Points {
			if p.Position.Cut == cut {
				return p, nil
			}
		}
		if err := k.w.Tick(ctx); err != nil {
			return homeward.Point{}, err
		}
	}
	return homeward.Point{}, fmt.Errorf("cut %v is no point: %w", cut, ctx.Err())
}

// point chooses one to fail over to: zero is the newest.
func (k *walker) point(ctx context.Context) (homeward.Position, error) {
	if k.rng.IntN(2) == 0 {
		return homeward.Position{}, nil
	}
	list, err := k.it.Standby.Target.Points(ctx, k.id())
	if err != nil || len(list.Points) == 0 {
		return homeward.Position{}, err
	}
	// Rather one of the newer: the oldest is often the empty beginning.
	n := len(list.Points)
	p := list.Points[n-1-k.rng.IntN(min(n, 6))]
	if !p.Mark.Kind.Bootable() {
		return homeward.Position{}, nil
	}
	_, err = k.w.CheckPoint(ctx, k.it.Standby, k.it.ID(), p)
	return p.Position, err
}

// failOver boots the standby side; what becomes of the old one is left to chance.
func (k *walker) failOver() {
	var at homeward.Position
	k.do("choose a point", func(ctx context.Context) (err error) { at, err = k.point(ctx); return err })
	k.failOverTo(at)
}

func (k *walker) failOverTo(at homeward.Position) {
	old := k.running()
	switch k.rng.IntN(3) {
	case 0:
		k.do("crash the old guest", func(context.Context) error { old.Hyper.Crash(k.it.ID()); return nil })
	case 1:
		k.forsake(old)
	default: // it goes on, and writes what will be lost
	}
	lost := k.rng.IntN(2) == 0
	k.w.Net.CutOff(old.Name, lost)
	k.apart = lost
	k.do(fmt.Sprintf("fail over to %.20v, old side lost: %t", at, lost), func(ctx context.Context) error {
		return k.it.FailOver(ctx, at)
	})
	k.w.Net.CutOff(old.Name, false)
	k.apart = false
	k.booted(k.it.Point.Position)
}

// forsake leaves the guest of a side paused, to be resumed when it is too late.
func (k *walker) forsake(s *world.Site) {
	k.do("forsake the old guest", func(ctx context.Context) error {
		g, err := s.Hyper.Forsake(ctx, k.it.ID())
		if g != nil {
			k.stale = append(k.stale, &staleGuest{guest: g, side: s.Name})
		}
		return err
	})
}

// booted checks that the machine began with what a point held.
func (k *walker) booted(at homeward.Position) {
	k.t.Helper()
	want, known := k.w.Known(at)
	began := k.w.Began(k.it.ID(), k.it.Generation)
	if known && began != want {
		k.fatal("the machine booted with something else than point %v", at)
	}
}

// failBack goes over without losing anything, or to an older point.
func (k *walker) failBack() {
	var at homeward.Position
	k.do("choose a point", func(ctx context.Context) (err error) { at, err = k.point(ctx); return err })
	k.failBackTo(at)
}

func (k *walker) failBackTo(at homeward.Position) {
	site := k.running()
	k.do(fmt.Sprintf("fail over as planned to %.20v", at), func(ctx context.Context) error { return k.it.FailOverPlanned(ctx, at) })
	k.fence(site)
	k.booted(k.it.Point.Position)
	if !at.IsZero() {
		return
	}
	// Nothing is lost: the state is that of the end of the machine's life there.
	if err := site.Hyper.CheckEnd(k.it.ID(), k.w.Media(site, k.it.Machine)); err != nil {
		k.fatal("the old side's disks are not what its guest wrote: %v", err)
	}
	if world.Hash(k.w.Media(site, k.it.Machine)) != k.w.Began(k.it.ID(), k.it.Generation) {
		k.fatal("the planned failover lost something")
	}
}

// fence notes that a side was handed over: whoever is still there cannot write.
func (k *walker) fence(s *world.Site) {
	for _, g := range k.stale {
		if g.side == s.Name {
			g.fenced = true
		}
	}
}

func (k *walker) changePoint() {
	var at homeward.Position
	k.do("choose a point", func(ctx context.Context) (err error) { at, err = k.point(ctx); return err })
	if k.rng.IntN(3) == 0 {
		k.forsake(k.standby())
	}
	k.do(fmt.Sprintf("change point to %.20v", at), func(ctx context.Context) error { return k.it.ChangePoint(ctx, at) })
	k.fence(k.standby())
	k.booted(k.it.Point.Position)
}

// commit makes a choice of points final. It is refused while somebody holds a newer
// point, as the branch of the last reprotect does: whoever says so lets it go.
func (k *walker) commit() {
	k.do("commit", func(ctx context.Context) error {
		err := k.it.Commit(ctx)
		if homeward.KindOf(err) != homeward.InUse {
			return err
		}
		list, err := k.it.Standby.Target.Points(ctx, k.id())
		if err != nil {
			return err
		}
		for _, p := range list.Points {
			for _, pin := range p.Pins {
				if pin != "branch:"+recovery.BranchName {
					continue
				}
				req := homeward.PinRequest{Item: k.it.ID(), Point: p.Position, Name: pin}
				if _, err := k.it.Standby.Target.Unpin(ctx, req); err != nil {
					return err
				}
			}
		}
		return k.it.Commit(ctx)
	})
}

// cancel goes back to the side that ran before.
func (k *walker) cancel() {
	old := k.running()
	if k.rng.IntN(3) == 0 {
		k.forsake(k.standby())
	}
	k.do("cancel", k.it.Cancel)
	k.fence(k.standby())
	k.fence(old)
	k.since = 0
}

// reprotect makes the old side follow, and checks what it cost and what it kept.
func (k *walker) reprotect() {
	old, now := k.standby(), k.running()
	quiet := k.rng.IntN(2) == 0
	ctx, cancel := k.context()
	defer cancel()
	if err := k.settle(ctx); err != nil {
		k.fatal("%v", err)
	}
	if quiet {
		if err := k.guest().Pause(ctx); err != nil {
			k.fatal("%v", err)
		}
	}
	var set maps
	var rev recovery.Reversal
	deaths, doubted := k.deaths(), len(k.w.Logged("map not trusted"))
	k.do("reprotect", func(ctx context.Context) (err error) {
		old.Hyper.Crash(k.it.ID()) // it wrote to the end
		if set == nil {
			if set, err = k.difference(ctx); err != nil {
				set = nil
				return err
			}
		}
		rev, err = k.it.Reprotect(ctx)
		return err
	})
	k.fence(old)
	undisturbed := deaths == k.deaths()
	if lines := k.w.Logged("map not trusted"); undisturbed && len(lines) > doubted {
		k.fatal("a map was doubted though it is right: %v", lines)
	}
	k.since = 0
	k.do("look at the branch", func(ctx context.Context) error {
		contents, err := k.w.ReadPoint(ctx, k.it.Standby, k.it.ID(), rev.Branch.Position)
		if err != nil {
			return fmt.Errorf("branch %v: %w", rev.Branch.Position, err)
		}
		if err := old.Hyper.CheckEnd(k.it.ID(), contents); err != nil {
			return fmt.Errorf("the branch is not the old side's last state: %w", err)
		}
		return nil
	})
	if g := now.Hyper.Guest(k.it.ID()); quiet && undisturbed && g != nil && g.Err() == nil {
		k.checkCost(set, rev)
	}
}

// reverse turns replication round and does not wait for its first point.
func (k *walker) reverse() {
	old := k.standby()
	k.do("reverse", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil {
			return err
		}
		old.Hyper.Crash(k.it.ID()) // it wrote to the end
		_, err := k.it.Reverse(ctx)
		return err
	})
	k.fence(old)
	k.since = 0
}

// awaitReverse lets a synchronization come to its first point.
func (k *walker) awaitReverse() {
	k.do("await the first point", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil {
			return err
		}
		_, err := k.it.AwaitReverse(ctx)
		return err
	})
	k.since = 0
}

// giveUp boots the standby side amid its synchronization, at a point from before it.
func (k *walker) giveUp() {
	var at homeward.Position
	k.do("choose an older point", func(ctx context.Context) error {
		list, err := k.it.Standby.Target.Points(ctx, k.id())
		if err != nil {
			return err
		}
		var bootable []homeward.Point
		for _, p := range list.Points {
			if p.Mark.Kind.Bootable() {
				bootable = append(bootable, p)
			}
		}
		if len(bootable) == 0 {
			return fmt.Errorf("the standby side holds nothing that could boot")
		}
		n := len(bootable)
		p := bootable[n-1-k.rng.IntN(min(n, 3))]
		at = p.Position
		_, err = k.w.CheckPoint(ctx, k.it.Standby, k.it.ID(), p)
		return err
	})
	k.failOverTo(at)
}

// checkCost holds what a reprotect sent against what the maps said.
func (k *walker) checkCost(set maps, rev recovery.Reversal) {
	k.t.Helper()
	const small = 64 << 10
	if limit := set.bytes()*110/100 + small; rev.Sent.PlainBytes > limit {
		k.fatal("reprotect sent %d bytes for a set of %d", rev.Sent.PlainBytes, set.bytes())
	}
	// A node of the digest tree that differs is read once more, block by block.
	const sample = 2 * 64 * homeward.BlockSize
	if limit := 2 * (int64(len(set)*sample) + rev.Estimate.FullReads); rev.FullReads > limit {
		k.fatal("reprotect read %d bytes to compare, more than its sample and the %d it said: %v", rev.FullReads, rev.Estimate.FullReads,
			k.w.Logged("map not trusted"))
	}
}

// prove drains and compares both sides byte by byte, and lets them prove it.
func (k *walker) prove() {
	k.do("prove", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil {
			return err
		}
		proof, err := k.it.Prove(ctx)
		if err == nil && !proof.Equal {
			err = fmt.Errorf("the sides are not equal: %+v", proof.Disks)
		}
		return err
	})
	k.do("drain", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil {
			return err
		}
		g := k.guest()
		if err := g.Pause(ctx); err != nil {
			return err
		}
		defer g.Write()
		if _, err := k.it.Running.Agent.Drain(ctx, homeward.DrainRequest{Item: k.it.ID()}); err != nil {
			return err
		}
		now, err := g.Read(ctx)
		if err != nil {
			return err
		}
		if err := newMaps(k.it.Machine).cover(now, k.w.Media(k.standby(), k.it.Machine)); err != nil {
			return fmt.Errorf("after a drain: %w", err)
		}
		return nil
	})
}
