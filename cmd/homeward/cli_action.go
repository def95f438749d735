package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// itemAction is an action as a command.
type itemAction struct {
	use    string
	action vault.Action
	short  string
	ask    string // before it is done: what is destroyed or moved; empty: nothing
}

func itemActions() []itemAction {
	return []itemAction{
		{"test-failover", vault.TestFailover, "Start a copy of the machine in an isolated network", ""},
		{"cleanup-test", vault.CleanUpTest, "Remove the copy that a test failover started", ""},
		{"failover", vault.Failover, "Start the machine at the other site, from a recovery point", "Fail over %s?"},
		{"change-point", vault.ChangePoint, "Fail over to another recovery point, before commit", "Restart %s from another point? What it wrote since the failover goes."},
		{"commit", vault.Commit, "Settle a failover or failback; after a failback the other side's machine is removed", "Commit %s? Its point cannot be changed afterwards."},
		{"reprotect", vault.Reprotect, "Replicate the machine back to where it came from, or forward again", "Reprotect %s? What its old side wrote since is overwritten, and kept only as a point."},
		{"resync", vault.Resync, "Compare both sides and send what differs", "Compare both sides of %s anew?"},
		{"failback", vault.FailbackAction, "Shut the machine down where it runs, and start it at home", "Fail back %s? It is shut down."},
		{"cancel", vault.CancelFailover, "Take a failover or failback back, before commit", "Take the failover of %s back? What it wrote since goes."},
		{"disable", vault.Disable, "End protection and delete the recovery points", "End protection of %s and delete its recovery points?"},
		{"adopt", vault.Adopt, "Take over what the nodes report, where the item was moved without this vault", "Make what the nodes report the state of %s? Nothing is changed at any node."},
		{"complete-migration", vault.CompleteMigration, "Stay where the machine runs, for good: there is no way back", "Complete the migration of %s? There is no way back."},
	}
}

func (a itemAction) command(r *remote) *cobra.Command {
	var f actionFlags
	cmd := r.verb(a.use+" ITEM", a.short, 1, func(ctx context.Context, v vault.Vault, args []string) error {
		req := vault.ActionRequest{Item: homeward.ItemID(args[0]), Action: a.action}
		return f.act(ctx, r, v, req, a.ask)
	})
	f.add(r, cmd, a.action)
	return items.completed(r, cmd)
}

func itemProtect(r *remote) *cobra.Command {
	var f actionFlags
	var id string
	cmd := r.verb("protect MACHINE --to SITE --policy POLICY", "Replicate a machine to another site", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		m, err := findMachine(v, ctx, args[0])
		if err != nil {
			return err
		}
		if id == "" {
			id = m.Found.Machine.Name
			if homeward.ItemID(id).Validate() != nil {
				id = m.ID[strings.LastIndex(m.ID, "/")+1:]
			}
		}
		req := vault.ActionRequest{Item: homeward.ItemID(id), Machine: m.ID, Action: vault.Enable}
		return f.act(ctx, r, v, req, "")
	})
	cmd.Flags().StringVar(&id, "as", "", "`id` of the item; by default the machine's name")
	f.add(r, cmd, vault.Enable)
	return machines.completed(r, cmd)
}

// actionFlags are the flags of an action: its inputs, and how it is run.
type actionFlags struct {
	input     vault.Input
	probe     vault.Probe
	overrides []string
	key       string
	revision  int64
	dry, wait bool
}

// add makes a flag of each input that belongs to the action.
func (a *actionFlags) add(r *remote, cmd *cobra.Command, action vault.Action) {
	f, in := cmd.Flags(), &a.input
	for _, name := range action.Inputs() {
		switch name {
		case "target_site":
			f.StringVar(&in.Target, "to", "", "`site` to replicate to")
			sites.flag(r, cmd, "to")
		case "policy":
			f.StringVar(&in.Policy, "policy", "", "forward `policy`")
			policies.flag(r, cmd, "policy")
		case "agent":
			a.node(r, cmd, &in.Agent, "agent", "mobility `agent`; by default the only one of the site")
		case "master_target":
			a.node(r, cmd, &in.MasterTarget, "master-target", "master `target`")
		case "process_server":
			a.node(r, cmd, &in.ProcessServer, "process-server", "process `server`")
		case "datastore":
			f.StringVar(&in.Datastore, "datastore", "", "`where` new disks are made; ignored where they exist (R40)")
		case "retention_volume":
			f.StringVar(&in.Retention, "retention", "", "retention `volume`, by its path at the master target (R41)")
		case "point":
			f.StringVar(&in.Point, "point", "", "`point`: latest, latest-app-consistent, lost-writes, an age such as -30s, or one of 'homeward point list'")
			pointFlag(r, cmd, "point")
		case "shutdown":
			f.BoolVar(&in.Shutdown, "shutdown", false, "shut the source down first; goes on if that fails")
		case "network":
			f.StringVar(&in.Network, "network", "", "an isolated `network`, as 'homeward item placement' lists them")
		case "lifetime":
			f.DurationVar(&in.Lifetime, "lifetime", 0, "clean up by itself after this `time`; 0: 24h; at most 336h")
		case "direction":
			f.Var(&direction{&in.Direction}, "direction", "`FROM:TO`, by sites; it is preselected (R38)")
		case "location":
			f.StringVar(&in.Location, "location", "", "`original` (what changed) or alternate (a new machine, a full copy)")
			oneOf(cmd, "location", "original", "alternate")
		case "force":
			f.BoolVar(&in.Force, "force", false, "also when a side cannot be told")
		case "discard_branch":
			f.BoolVar(&in.DiscardBranch, "discard-branch", false, "amid a synchronization: also delete lost-writes, all that boots at the side that stands by")
		case "probe":
			a.addProbe(cmd)
		case "overrides":
			f.StringArrayVar(&a.overrides, "override", nil, "let a check pass: `RULE=REASON`; the reason is audited")
		}
	}
	f.StringVar(&a.key, "key", "", "idempotency `key`: the same again answers the same job")
	f.Int64Var(&a.revision, "revision", 0, "only if the item is still at this `revision`")
	f.BoolVar(&a.dry, "dry-run", false, "tell what would be done, what it costs and what stops it; change nothing")
	f.BoolVar(&a.wait, "wait", false, "wait until the job, and those it begins, have ended")
}

func (a *actionFlags) node(r *remote, cmd *cobra.Command, into *string, name, usage string) {
	cmd.Flags().StringVar(into, name, "", usage)
	nodes.flag(r, cmd, name)
}

func (a *actionFlags) addProbe(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.probe.TCP, "probe-tcp", "", "booted means: `host:port` accepts, as the site's configuration server sees it")
	f.StringVar(&a.probe.HTTP, "probe-http", "", "booted means: this `URL` answers the site's configuration server")
	f.StringArrayVar(&a.probe.Command, "probe-command", nil, "booted means: this program, allowed at the site's configuration server, succeeds there; one `word` each time")
	f.DurationVar(&a.probe.Timeout, "probe-timeout", 0, "how long it may take; 0: 5m")
}

// act plans with --dry-run, else asks, starts the job, and waits for it if told to.
func (a *actionFlags) act(ctx context.Context, r *remote, v vault.Vault, req vault.ActionRequest, ask string) error {
	if a.dry && a.wait {
		return homeward.Errorf("read flags", homeward.Invalid, "--wait", "leave one of them out", "--dry-run starts no job to wait for")
	}
	if err := a.missing(req.Action); err != nil {
		return err
	}
	req.Input, req.Key, req.Revision = a.input, a.key, a.revision
	if p := a.probe; p.TCP != "" || p.HTTP != "" || len(p.Command) > 0 || p.Timeout != 0 {
		req.Input.Probe = &p
	}
	for _, o := range a.overrides {
		rule, reason, ok := strings.Cut(o, "=")
		if !ok || rule == "" || strings.TrimSpace(reason) == "" {
			return homeward.Errorf("read flags", homeward.Invalid, "--override", "give RULE=REASON, such as R13='tested in May'", "%q", o)
		}
		if req.Input.Overrides == nil {
			req.Input.Overrides = map[string]string{}
		}
		req.Input.Overrides[rule] = reason
	}
	point, err := resolveInput(ctx, v, req.Item, req.Input.Point)
	if err != nil {
		return err
	}
	req.Input.Point = point
	if err := req.Validate(); err != nil {
		return err
	}
	if a.dry {
		return r.dryRun(ctx, v, req)
	}
	if ask != "" {
		if err := r.confirmAction(ctx, v, req, fmt.Sprintf(ask, req.Item)); err != nil {
			return err
		}
	}
	j, err := v.Act(ctx, req)
	if err != nil {
		return err
	}
	return r.begun(ctx, v, j, a.wait)
}

// missing names the flag without which the action cannot be meant. Another point is
// always named: the newest by default would drop what the machine wrote, unasked.
func (a *actionFlags) missing(action vault.Action) error {
	switch action {
	case vault.Enable:
		if err := required("--to", a.input.Target, "the site to replicate to; 'homeward site list' has them"); err != nil {
			return err
		}
		return required("--policy", a.input.Policy, "a forward policy; 'homeward policy list' has them, 'homeward policy create' makes one")
	case vault.TestFailover:
		return required("--network", a.input.Network, "an isolated network of the other site; 'homeward item placement ITEM' lists them")
	case vault.ChangePoint:
		return required("--point", a.input.Point, "the point to go to: one of 'homeward point list ITEM', latest, or an age such as -1m")
	}
	return nil
}

// confirmAction asks, with what will be lost before the question.
func (r *remote) confirmAction(ctx context.Context, v vault.Vault, req vault.ActionRequest, ask string) error {
	if r.yes || !r.tty.in {
		return nil
	}
	p, err := v.Plan(ctx, req)
	if err != nil {
		return err
	}
	return r.confirm(ask, p.Losses)
}

// resolveInput turns what 'homeward point list' shows into a whole position; what
// the vault understands itself stays as it is.
func resolveInput(ctx context.Context, v vault.Vault, item homeward.ItemID, s string) (string, error) {
	if s == "" || s == vault.Latest || s == vault.LatestApp || s == vault.LostWrites {
		return s, nil
	}
	if age, isAge := strings.CutPrefix(s, "-"); isAge {
		if _, err := time.ParseDuration(age); err != nil {
			return "", homeward.Errorf("read flags", homeward.Invalid, "--point", "give hours, minutes and seconds, such as -30s, -5m or -1h30m", "no such age: %q", s)
		}
		return s, nil
	}
	p, err := findPoint(ctx, v, item, s)
	return p.String(), err
}

// direction reads FROM:TO.
type direction struct{ to *homeward.Direction }

func (d *direction) String() string {
	if d.to == nil || *d.to == (homeward.Direction{}) {
		return ""
	}
	return d.to.From + ":" + d.to.To
}
func (d *direction) Type() string { return "FROM:TO" }
func (d *direction) Set(s string) error {
	from, to, ok := strings.Cut(s, ":")
	if !ok || from == "" || to == "" {
		return fmt.Errorf("give two sites, FROM:TO")
	}
	*d.to = homeward.Direction{From: from, To: to}
	return nil
}
