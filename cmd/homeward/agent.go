package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
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
	var guests tcpGuests
	var commands bool
	cmd := &cobra.Command{Use: "agent", Short: "Run a mobility agent: serve machines their disks, capture and ship what they write", Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runNode(cmd.Context(), pki.Agent, f, func(ctx context.Context, n node) (opened, error) {
				if live == "" {
					live = filepath.Join("/dev/shm/homeward", n.id.Peer().Name)
				}
				return openAgent(ctx, n, live, spill, guests, commands)
			})
		}}
	f.register(cmd)
	f.registerSockets(cmd)
	cmd.Flags().StringVar(&live, "live", "", "`directory` on tmpfs for maps that survive a kill (default /dev/shm/homeward/NAME)")
	cmd.Flags().StringVar(&spill, "spill", "", "`directory` for saved copies that do not fit into memory (default DIR/spill)")
	cmd.Flags().StringVar(&guests.listen, "nbd-listen", "", "`host:port` to serve disks at over TCP and mutual TLS, to hosts with the identity of a configuration server, instead of a unix socket")
	cmd.Flags().StringVar(&guests.advertise, "nbd-advertise", "", "`host:port` that guests reach --nbd-listen at (default: as bound)")
	cmd.Flags().BoolVar(&commands, "allow-commands", false, "run the commands that policies name to freeze and thaw guests: who may change a policy then runs them as this agent")
	return cmd
}

// tcpGuests is where guests on other hosts find their disks; empty: a unix socket
// on this host.
type tcpGuests struct{ listen, advertise string }

func openAgent(ctx context.Context, n node, live, spill string, guests tcpGuests, commands bool) (opened, error) {
	next := newSinks(n.id, pki.ProcessServer)
	cfg := agent.Config{
		Dir: n.flags.dir, LiveDir: live, SpillDir: spill, SocketDir: n.flags.sockets,
		Commands: commands, Openers: n.openers(), Dial: next.dial, FS: n.fs, Log: n.log, Fault: n.fault,
	}
	if guests.listen != "" {
		cfg.Name = n.id.Peer().Name
		cfg.Listen, cfg.Advertise, cfg.TLS, cfg.Watch = guests.listen, guests.advertise, n.id.ServerTLS(pki.ConfigurationServer), n.id.Watch
	}
	a, err := agent.Open(ctx, cfg)
	if err != nil {
		return opened{}, errors.Join(err, next.close())
	}
	tell := func(req homeward.HealthRequest, r *homeward.HealthReport) { tellItems(a, req, r) }
	return opened{control: role.AgentHandler(a), tell: tell, close: func() error {
		// The agent first: it is who uses the connections.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return errors.Join(a.Close(ctx), next.close())
	}}, nil
}
