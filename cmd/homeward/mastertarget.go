package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/ship"
)

func (c *command) masterTarget() *cobra.Command {
	var f nodeFlags
	cmd := &cobra.Command{Use: "master-target", Short: "Run a master target: apply deltas, keep points, serve them; or use its volume offline", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runNode(cmd.Context(), pki.MasterTarget, f, openMasterTarget)
		}}
	f.register(cmd)
	f.registerListen(cmd)
	f.registerSockets(cmd)
	cmd.AddCommand(c.offlinePoints(), c.offlineVerify(), c.offlineServe(), c.offlineRecover())
	return cmd
}

func openMasterTarget(ctx context.Context, n node) (opened, error) {
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
		Dir: n.flags.dir, FS: n.fs, Openers: n.openers(), NBD: v.server, URI: v.uri, Log: n.log,
	})
	if err != nil {
		return opened{}, errors.Join(err, shut(v.close))
	}
	if err := v.serve(); err != nil {
		return opened{}, errors.Join(err, shut(v.close, t.Close))
	}
	return opened{
		control: role.MasterTargetHandler(t),
		data:    ship.NewHandler(t, onlyFrom(pki.ProcessServer, t.MaySend)),
		// Guests first: nobody may write to a disk that is being closed.
		close: func() error { return shut(v.close, t.Close) },
	}, nil
}
