package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/processserver"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/ship"
)

func (c *command) processServer() *cobra.Command {
	var f nodeFlags
	var spool int64
	cmd := &cobra.Command{Use: "process-server", Short: "Run a process server: receive deltas, spool, compress and forward them", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runNode(cmd.Context(), pki.ProcessServer, f, func(ctx context.Context, n node) (opened, error) {
				return openProcessServer(ctx, n, spool)
			})
		}}
	f.register(cmd)
	f.registerListen(cmd)
	cmd.Flags().Int64Var(&spool, "spool-bytes", 8<<30, "`bytes` that spooled deltas may take in all")
	return cmd
}

func openProcessServer(ctx context.Context, n node, spool int64) (opened, error) {
	next := onward(n.id, pki.MasterTarget)
	// It ends by Close alone: deltas that are arriving are still taken meanwhile.
	s, err := processserver.Open(context.WithoutCancel(ctx), processserver.Config{
		Dir: n.flags.dir, SpoolBytes: spool, FS: n.fs, Log: n.log,
		Dial: func(url string) homeward.Sink { return ship.NewClient(url, next) },
	})
	if err != nil {
		return opened{}, err
	}
	return opened{
		control: role.ProcessServerHandler(s),
		tell:    func(req homeward.HealthRequest, r *homeward.HealthReport) { tellItems(s, req, r) },
		data:    ship.NewHandler(s, onlyFrom(pki.Agent, s.MaySend)),
		close:   s.Close,
	}, nil
}
