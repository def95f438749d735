package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/ship"
)

func (c *command) masterTarget() *cobra.Command {
	var f nodeFlags
	var retention []string
	cmd := &cobra.Command{Use: "master-target", Short: "Run a master target: apply deltas, keep points, serve them; or use its volume offline", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runNode(cmd.Context(), pki.MasterTarget, f, func(ctx context.Context, n node) (opened, error) {
				return openMasterTarget(ctx, n, retention)
			})
		}}
	f.register(cmd)
	f.registerListen(cmd)
	f.registerSockets(cmd)
	cmd.Flags().StringArrayVar(&retention, "retention", nil, "`directory`, where a volume is mounted, on which items may keep their points; the first is the default (default: DIR)")
	cmd.AddCommand(c.offlinePoints(), c.offlineVerify(), c.offlineServe(), c.offlineRecover())
	return cmd
}

func openMasterTarget(ctx context.Context, n node, retention []string) (opened, error) {
	for i, path := range retention {
		abs, err := filepath.Abs(path)
		if err != nil {
			return opened{}, homeward.Errorf("read flags", homeward.Invalid, "--retention", "give an absolute path", "%w", err)
		}
		retention[i] = abs
	}
	v := newViews(n.flags.sockets, n.log)
	shut := func(closers ...func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		var errs []error
		for _, closing := range closers {
			errs = append(errs, closing(ctx))
		}
		return errors.Join(errs...)
	}
	// It ends by Close alone: deltas that are arriving are still applied meanwhile.
	t, err := mastertarget.Open(context.WithoutCancel(ctx), mastertarget.Config{
		Dir: n.flags.dir, Name: n.id.Peer().Name, Retention: retention,
		FS: n.fs, Openers: n.openers(), NBD: v.server, URI: v.uri, Log: n.log,
	})
	if err != nil {
		return opened{}, errors.Join(err, shut(v.close))
	}
	if err := v.serve(); err != nil {
		return opened{}, errors.Join(err, shut(v.close, t.Close))
	}
	return opened{
		control: role.MasterTargetHandler(t),
		tell: func(req homeward.HealthRequest, r *homeward.HealthReport) {
			tellItems(t, req, r)
			tellVolumes(t, n.flags.dir, retention, r)
		},
		data: ship.NewHandler(t, onlyFrom(pki.ProcessServer, t.MaySend)),
		// Guests first: nobody may write to a disk that is being closed.
		close: func() error { return shut(v.close, t.Close) },
	}, nil
}
