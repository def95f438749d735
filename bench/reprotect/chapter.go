package reprotect

import (
	"context"
	"errors"
	"fmt"

	"github.com/homeward-dr/homeward/bench/measure"
)

// Chapter is all of it. Quick: two minutes; full: forty.
func Chapter() measure.Chapter {
	return measure.Chapter{Name: "reprotect", Quick: true, What: "the way back: what travels, how long it takes, what it costs on each side",
		Needs: []measure.Requirement{{Program: "ip", Package: "iproute2"}, {Program: "rsync", Package: "rsync"}, {Program: "btrfs", Package: "btrfs-progs"},
			{Program: "qemu-storage-daemon", Package: "qemu-system-common"}, {Program: "qemu-nbd", Package: "qemu-utils"},
			{Program: "nbdcopy", Package: "libnbd-bin"}, {Program: "nbdkit", Package: "nbdkit"},
			{Program: "restic", Package: "restic"}, {Program: "rclone", Package: "rclone"}},
		Measure: chapter}
}

func chapter(ctx context.Context, b *measure.Bench) (f measure.Figure, err error) {
	f = measure.Figure{Title: "Reprotect: the way back", What: what}
	r, err := newRig(ctx, b)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	f.Notes = append(f.Notes, "TCP's congestion control on all links: "+r.net.Congestion+".")
	err = r.bulk(ctx, &f)
	for i, group := range settings(b) {
		if err == nil {
			err = r.group(ctx, group, i == 0, &f)
		}
	}
	present(&f)
	return f, err
}

// group measures settings of one disk size, and digests of such disks.
func (r *rig) group(ctx context.Context, group []setting, digests bool, f *measure.Figure) (err error) {
	t := &stock{r: r, disk: group[0].disk}
	defer func() { err = errors.Join(err, t.close(ctx)) }()
	if digests {
		if err := t.protect(ctx); err != nil {
			return err
		}
		if err := r.digests(ctx, t.ours, itsOwn, f); err != nil {
			return err
		}
	}
	for _, s := range group {
		if err := r.net.Join(ctx, s.link); err != nil {
			return err
		}
		var contenders []measure.Contender
		for _, name := range s.who {
			c, err := t.contender(ctx, name, s)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			contenders = append(contenders, c)
		}
		r.b.Say("  %s, %s changed, %s, %s", size(s.disk), s.share, s.pattern, s.link.Name)
		series, err := measure.Alternate(ctx, r.rounds(), s.labels(), contenders...)
		f.Series = append(f.Series, series)
		if err != nil {
			return err
		}
	}
	if digests && !r.quick() {
		return r.digests(ctx, t.ours, served, f)
	}
	return nil
}

// rounds: the quick mode has time for three.
func (r *rig) rounds() int {
	if r.quick() {
		return min(r.b.Rounds, 3)
	}
	return r.b.Rounds
}

func (r *rig) quick() bool { return !r.b.Full && !r.b.Smoke }

// stock is what contenders of one disk size work on, made when it is first asked
// for.
type stock struct {
	r         *rig
	disk      int64
	ours      *ours
	pair      *pair
	snapshots *snapshots
}

func (t *stock) close(ctx context.Context) (err error) {
	if t.ours != nil {
		err = t.ours.close()
	}
	if t.pair != nil {
		err = errors.Join(err, t.pair.close())
	}
	if t.snapshots != nil {
		err = errors.Join(err, t.snapshots.close(context.WithoutCancel(ctx)))
	}
	return err
}

func (t *stock) protect(ctx context.Context) (err error) {
	if t.ours == nil {
		t.r.b.Say("  protecting a disk of %s", size(t.disk))
		t.ours, err = t.r.protect(ctx, t.disk)
	}
	return err
}

// contender is one by name, with what it works on made.
func (t *stock) contender(ctx context.Context, name string, s setting) (c measure.Contender, err error) {
	c = measure.Contender{Name: name, Missing: need(programs(name)...)}
	if c.Missing != "" {
		return c, nil
	}
	again := func(do func(context.Context, change) (measure.Values, error)) func(context.Context) (measure.Values, error) {
		return func(ctx context.Context) (measure.Values, error) { return do(ctx, t.r.next(s)) }
	}
	switch name {
	case byMap, byDigest, inFull:
		err = t.protect(ctx)
		switch name {
		case inFull:
			c.Measure = func(ctx context.Context) (measure.Values, error) { return t.ours.copy(ctx) }
		default:
			c.Measure = again(func(ctx context.Context, x change) (measure.Values, error) {
				return t.ours.reprotect(ctx, x, name == byDigest)
			})
		}
	case withBtrfs:
		if t.snapshots == nil {
			t.r.b.Say("  making btrfs file systems for %s", size(t.disk))
			if t.snapshots, err = t.r.makeSnapshots(ctx, t.disk); err != nil && ctx.Err() == nil { // a kernel without btrfs or loop devices
				c.Missing, t.snapshots, err = err.Error(), nil, nil
			}
		}
		c.Measure = again(func(ctx context.Context, x change) (measure.Values, error) { return t.snapshots.attempt(ctx, x) })
	default:
		if t.pair == nil {
			t.r.b.Say("  making a pair of images of %s", size(t.disk))
			t.pair, err = t.r.makePair(ctx, t.disk)
		}
		c.Measure = again(map[string]func(context.Context, change) (measure.Values, error){
			withRsync: t.pair.rsync, withQEMU: t.pair.qemu, withNbdcopy: t.pair.nbdcopy, withRestic: t.pair.restic}[name])
	}
	return c, err
}

// programs are those that a contender needs.
func programs(contender string) []string {
	switch contender {
	case withRsync:
		return []string{"rsync"}
	case withBtrfs:
		return []string{"btrfs", "mkfs.btrfs", "mount"}
	case withQEMU:
		return []string{"qemu-storage-daemon", "qemu-nbd"}
	case withNbdcopy:
		return []string{"nbdcopy", "nbdkit"}
	case withRestic:
		return []string{"restic", "rclone"}
	}
	return nil
}
