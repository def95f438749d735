package recovery

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward"
)

// Where the machine does not run it must not run: a copy that is powered on there
// would diverge, and would answer under the machine's name (R45, R46, R148).

func (it *Item) guard(ref homeward.Ref) homeward.Guard {
	return homeward.Guard{Ref: ref, Kind: homeward.GuardNoPowerOn, Owner: "item " + string(it.ID()),
		Reason: "the machine runs at another site and replicates to this one; fail it back to run it here"}
}

// keepOff guards the machine at a side against being powered on, and then powers it
// off. A stale copy has nothing to save: its plug is pulled. A site that has no
// guards is told of by the log; Intruder sees what they would have kept off.
func (it *Item) keepOff(ctx context.Context, side *Side) error {
	m, known, err := it.machineAt(ctx, side)
	if err != nil || !known {
		return err
	}
	err = side.Site.Guard(ctx, it.guard(m.Ref))
	switch homeward.KindOf(err) {
	case homeward.Unsupported:
		if it.Log != nil {
			it.Log.Warn("nothing keeps the machine from being powered on", "item", it.ID(), "site", side.Name, "error", err)
		}
	case "":
	default:
		return err
	}
	return it.powerOff(ctx, side.Site, m.Ref, homeward.Stop{})
}

// allowOn lifts the item's guard at a side.
func (it *Item) allowOn(ctx context.Context, side *Side) error {
	ref, known := it.Refs[side.Name]
	if !known {
		return nil
	}
	err := side.Site.Unguard(ctx, it.guard(ref))
	switch homeward.KindOf(err) {
	case homeward.Unsupported, homeward.NotFound:
		return nil
	}
	return err
}

// Intruder is the item's machine where it must be off, if it is on there: at the
// standby side, and while failed over at the side that ran before. While a list
// moves the machine nothing is one. A power state that nobody knows is an error
// (Unavailable): unknown is never off. It changes nothing, the record neither.
func (it *Item) Intruder(ctx context.Context) (m homeward.SiteMachine, on bool, err error) {
	side, must := it.mustBeOff()
	if !must {
		return m, false, nil
	}
	m, known, err := it.machineAt(ctx, side)
	if err != nil || !known {
		return m, false, err
	}
	if m.Power == homeward.PowerUnknown {
		return m, false, homeward.Errorf("look for intruder", homeward.Unavailable, "machine "+m.Ref.Native,
			"see at site "+side.Name+" that it is off", "its power state is not known")
	}
	return m, m.Power == homeward.PowerOn, nil
}

func (it *Item) mustBeOff() (*Side, bool) {
	switch it.List.Op {
	case opFailOver, opFailBack, opChangePoint, opCancel, opDisable:
		return nil, false
	}
	switch it.State {
	case Synchronizing, Protected, Committed:
		return it.Standby, true
	case FailedOver:
		return it.Running, true
	}
	return nil, false
}

// FenceIntruder powers off what Intruder finds, and guards it; the record stays as it
// is. It answers what it found, as it was before.
func (it *Item) FenceIntruder(ctx context.Context) (m homeward.SiteMachine, on bool, err error) {
	m, on, err = it.Intruder(ctx)
	if err != nil || !on {
		return m, on, err
	}
	side, _ := it.mustBeOff()
	return m, true, it.step(ctx, "power off intruder", func(func(homeward.Progress)) error { return it.keepOff(ctx, side) })
}

// RemoveStandbyMachine removes the machine at the recovery site after a failback
// was committed (R118): its definition, never its disks, which the next reprotect
// makes the replica again. Refused where the machine runs at the recovery site
// itself: the one at the original site stays (R168). That it is gone is no error.
func (it *Item) RemoveStandbyMachine(ctx context.Context) error {
	const op = "remove standby machine"
	if err := it.require(op, Committed, Synchronizing, Protected); err != nil {
		return err
	}
	if it.Running.Name != it.Origin {
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()),
			"fail back to "+it.Origin+" first; what was protected there is never removed (R168)", "it runs at %s", it.Running.Name)
	}
	return it.step(ctx, op, func(func(homeward.Progress)) error {
		m, known, err := it.machineAt(ctx, it.Standby)
		if err == nil && known {
			err = it.remove(ctx, it.Standby.Site, m.Ref)
		}
		if err != nil {
			return err
		}
		delete(it.Refs, it.Standby.Name)
		return it.save()
	})
}

// remove powers a machine off and deletes its definition.
func (it *Item) remove(ctx context.Context, site homeward.Site, ref homeward.Ref) error {
	if err := it.powerOff(ctx, site, ref, homeward.Stop{}); err != nil {
		return err
	}
	_, err := finish(ctx, site)(site.Delete(ctx, fmt.Sprintf("delete-%s-%s", it.ID(), homeward.NewID()), ref))
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	return err
}
