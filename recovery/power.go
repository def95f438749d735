package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
)

// boot starts the machine at a side on the given disks (NBD URIs of the agent),
// defining it there first where the site does not know it.
func (it *Item) boot(ctx context.Context, side *Side, report homeward.CaptureReport) error {
	key := fmt.Sprintf("%s-%d", it.ID(), it.Generation.Number)
	disks := make([]homeward.Attachment, len(report.Disks))
	for i, d := range report.Disks {
		disks[i] = homeward.Attachment{Disk: d.Disk, Ref: d.URI, Slot: i}
	}
	ref, known := it.Refs[side.Name]
	if !known {
		op, err := finish(ctx, side.Site)(side.Site.Create(ctx, "create-"+key, it.Machine, disks))
		if err != nil {
			return err
		}
		it.Refs[side.Name] = op.Result
		if err := it.save(); err != nil {
			return err
		}
		ref = op.Result
	} else if err := reattach(ctx, side.Site, key, ref, disks); err != nil {
		return err
	}
	_, err := finish(ctx, side.Site)(side.Site.PowerOn(ctx, "on-"+key, ref))
	return err
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

// shutdown powers the machine off at a side; a machine the site does not know is off.
func (it *Item) shutdown(ctx context.Context, side *Side, graceful bool) error {
	ref, known := it.Refs[side.Name]
	if !known {
		return nil
	}
	key := fmt.Sprintf("off-%s-%d-%t", it.ID(), it.Generation.Number, graceful)
	_, err := finish(ctx, side.Site)(side.Site.PowerOff(ctx, key, ref, homeward.Stop{Graceful: graceful, Timeout: 20 * time.Second}))
	return err
}

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
