package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
)

// boot starts the machine at a side on the given disks (NBD URIs of the agent),
// defining it there first where the site does not know it, or not any more (R128).
// The guard that kept it off goes first.
func (it *Item) boot(ctx context.Context, side *Side, report homeward.CaptureReport) error {
	disks := make([]homeward.Attachment, len(report.Disks))
	for i, d := range report.Disks {
		disks[i] = homeward.Attachment{Disk: d.Disk, Ref: d.URI, Slot: i}
	}
	return it.bootOn(ctx, side, fmt.Sprintf("%s-%d", it.ID(), it.Generation.Number), disks)
}

func (it *Item) bootOn(ctx context.Context, side *Side, key string, disks []homeward.Attachment) error {
	_, known, err := it.machineAt(ctx, side)
	if err != nil {
		return err
	}
	ref, had := it.Refs[side.Name]
	if !known {
		create := "create-" + key
		if had { // it may have been made under this key, and be gone since
			create += "-" + homeward.NewID().String()
		}
		op, err := finish(ctx, side.Site)(side.Site.Create(ctx, create, it.definition(side), disks))
		if err != nil {
			return err
		}
		ref = op.Result
		it.Refs[side.Name] = ref
		if err := it.save(); err != nil {
			return err
		}
	} else if err := reattach(ctx, side.Site, key, ref, disks); err != nil {
		return err
	}
	if err := it.allowOn(ctx, side); err != nil {
		return err
	}
	_, err = finish(ctx, side.Site)(side.Site.PowerOn(ctx, "on-"+key, ref))
	return err
}

// machineAt is the item's machine as a side's site sees it now; not known: it was
// never there, or the site has it no more.
func (it *Item) machineAt(ctx context.Context, side *Side) (m homeward.SiteMachine, known bool, err error) {
	ref, known := it.Refs[side.Name]
	if !known {
		return m, false, nil
	}
	m, err = side.Site.Machine(ctx, ref)
	if homeward.KindOf(err) == homeward.NotFound {
		return m, false, nil
	}
	return m, err == nil, err
}

// definition is the machine as it is created at a side. Beside an old one that
// Relocate left there it needs a name of its own.
func (it *Item) definition(side *Side) homeward.Machine {
	m := it.Machine
	if d := it.Doomed; d != nil && d.Side == side.Name && d.Machine != (homeward.Ref{}) {
		m = named(m, fmt.Sprintf("-%d", d.Generation.Number))
	}
	return m
}

// named is a machine under another id and name, made from its own and a suffix.
func named(m homeward.Machine, suffix string) homeward.Machine {
	const longest = 64 // see homeward.ItemID.Validate
	id := string(m.Item)
	m.Item = homeward.ItemID(id[:min(len(id), longest-len(suffix))] + suffix)
	m.Name += suffix
	return m
}

func reattach(ctx context.Context, site homeward.Site, key string, ref homeward.Ref, disks []homeward.Attachment) error {
	for _, d := range disks {
		k := key + "-" + string(d.Disk)
		if _, err := finish(ctx, site)(site.Detach(ctx, "detach-"+k, ref, d.Disk)); err != nil && homeward.KindOf(err) != homeward.NotFound {
			return err
		}
		if _, err := finish(ctx, site)(site.Attach(ctx, "attach-"+k, ref, d)); err != nil {
			return err
		}
	}
	return nil
}

// shutdown powers the machine off at a side, its guest first; a machine the site
// does not know is off.
func (it *Item) shutdown(ctx context.Context, side *Side) error {
	ref, known := it.Refs[side.Name]
	if !known {
		return nil
	}
	return it.powerOff(ctx, side.Site, ref, homeward.Stop{Graceful: true, Timeout: patience})
}

// powerOff stops a machine, each time anew: it may have been powered on since.
func (it *Item) powerOff(ctx context.Context, site homeward.Site, ref homeward.Ref, how homeward.Stop) error {
	_, err := finish(ctx, site)(site.PowerOff(ctx, fmt.Sprintf("off-%s-%s", it.ID(), homeward.NewID()), ref, how))
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	return err
}

// patience is how long a guest may take to shut down before its plug is pulled.
const patience = 20 * time.Second

// finish waits for the operation a site call began.
func finish(ctx context.Context, site homeward.Site) func(homeward.Operation, error) (homeward.Operation, error) {
	return func(op homeward.Operation, err error) (homeward.Operation, error) {
		if err != nil {
			return op, err
		}
		err = poll(ctx, func() (bool, error) {
			if op.State != homeward.OperationRunning {
				return true, nil
			}
			next, err := site.Operation(ctx, op.ID)
			if err == nil {
				op = next
			}
			return op.State != homeward.OperationRunning, err
		})
		if err == nil && op.State == homeward.OperationFailed {
			err = homeward.Errorf("operation "+op.ID, kindOf(op.Class), op.Key, op.Remedy, "%s", op.Error)
		}
		return op, err
	}
}

func kindOf(c homeward.ErrorClass) homeward.Kind {
	switch c {
	case homeward.ClassTransient:
		return homeward.Unavailable
	case homeward.ClassThrottled:
		return homeward.Busy
	case homeward.ClassPermission:
		return homeward.Forbidden
	case homeward.ClassLocked:
		return homeward.InUse
	case homeward.ClassCapacity:
		return homeward.NoSpace
	case homeward.ClassGone:
		return homeward.NotFound
	}
	return homeward.Internal
}
