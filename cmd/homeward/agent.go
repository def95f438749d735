package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward/agent"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
)

// closeTimeout is how long a role may take to finish what it is doing when it is
// told to end. What is not finished then is finished after the next start.
const closeTimeout = 10 * time.Second

func (c *command) agent() *cobra.Command {
	var f nodeFlags
	var live, spill string
	cmd := &cobra.Command{Use: "agent", Short: "Run a mobility agent: serve machines their disks, capture and ship what they write", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runNode(cmd.Context(), pki.Agent, f, func(ctx context.Context, n node) (opened, error) {
				if live == "" {
					live = filepath.Join("/dev/shm/homeward", n.id.Peer().Name)
				}
				return openAgent(ctx, n, live, spill)
			})
		}}
	f.register(cmd)
	f.registerSockets(cmd)
	cmd.Flags().StringVar(&live, "live", "", "`directory` on tmpfs for maps that survive a kill (default /dev/shm/homeward/NAME)")
	cmd.Flags().StringVar(&spill, "spill", "", "`directory` for saved copies that do not fit into memory (default DIR/spill)")
	return cmd
}

func openAgent(ctx context.Context, n node, live, spill string) (opened, error) {
	next := newSinks(n.id.ClientTLS(pki.ProcessServer))
	a, err := agent.Open(ctx, agent.Config{
		Dir: n.flags.dir, LiveDir: live, SpillDir: spill, SocketDir: n.flags.sockets,
		Openers: n.openers(), Dial: next.dial, FS: n.fs, Log: n.log, Fault: n.fault,
	})
	if err != nil {
		return opened{}, errors.Join(err, next.close())
	}
	return opened{control: role.AgentHandler(a), close: func() error {
		// The agent first: it is who uses the connections.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return errors.Join(a.Close(ctx), next.close())
	}}, nil
}
