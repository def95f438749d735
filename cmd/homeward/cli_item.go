package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/vault"
)

var items = resource[vault.Item]{
	noun: "item", events: []string{"item", "job"}, filters: []string{"site", "state"}, list: vault.Vault.Items,
	get: func(v vault.Vault, ctx context.Context, id string) (vault.Item, error) {
		return v.Item(ctx, homeward.ItemID(id))
	},
	key:     func(i vault.Item) string { return string(i.ID) },
	heading: []any{"ITEM", "STATE", "RUNS AT", "DIRECTION", "RPO", "POINTS", "LAG", "JOB", "FAILBACK"},
	row: func(i vault.Item) []any {
		return []any{i.ID, itemState(i), i.ActiveSite, i.Direction.From + " > " + i.Direction.To, rpo(i.Replication.RPO), i.Replication.Points,
			size(i.Replication.LagBytes), i.Job, score(i.Score)}
	},
	show: showItem,
}

func itemState(i vault.Item) string {
	s := string(i.State)
	if i.Replication.Paused {
		s += ", paused"
	}
	if i.Test.State != "" && i.Test.State != vault.TestNone {
		s += ", test " + string(i.Test.State)
	}
	return s
}

func showItem(r *remote, i vault.Item) error {
	rep := i.Replication
	if err := r.details("item", i.ID, "machine", i.Machine, "state", itemState(i), "runs at", i.ActiveSite,
		"direction", i.Direction.From+" > "+i.Direction.To, "policy", i.Policy, "phase", rep.Phase, "progress", progress(rep.Progress),
		"rpo", rpo(rep.RPO), "points", rep.Points, "newest point", when(rep.Newest), "not yet applied", size(rep.LagBytes), "spooled", size(rep.SpoolBytes),
		"retention", size(rep.Retention), "priority", priority(rep), "as of", when(rep.As), "why", rep.Why, "running job", i.Job,
		"test machine", i.Test.Machine, "test ends", when(i.Test.Expires), "last test that worked", when(i.Test.Succeeded),
		"failback", score(i.Score), "proof", i.Proof, "revision", i.Revision); err != nil {
		return err
	}
	legs := [][]any{{"LEG", "PROCESS SERVER", "MASTER TARGET", "POLICY"}}
	for _, l := range i.Legs {
		legs = append(legs, []any{l.Direction.From + " > " + l.Direction.To, l.ProcessServer, l.MasterTarget, l.Policy})
	}
	if err := r.section("Legs", legs); err != nil {
		return err
	}
	if err := r.section("Health", findingRows(i.Health, false)); err != nil {
		return err
	}
	return r.printPossible(i)
}

// printPossible says what is possible now and why the rest is not, as the commands
// are called. What stops everything is said once.
func (r *remote) printPossible(i vault.Item) error {
	var possible []string
	for _, a := range i.Allowed {
		possible = append(possible, verbOf(a))
	}
	if len(possible) == 0 {
		possible = []string{"nothing"}
	}
	if err := r.line("\npossible now: %s", strings.Join(possible, ", ")); err != nil {
		return err
	}
	refused, same := [][]any{{"COMMAND", "WHY NOT", "WHAT TO DO", "RULE"}}, true
	for _, x := range i.Refused {
		same = same && x.Why == i.Refused[0].Why && x.Remedy == i.Refused[0].Remedy
		refused = append(refused, []any{verbOf(x.Action), x.Why, x.Remedy, x.Rule})
	}
	if same && len(i.Refused) > 1 {
		return r.line("why not: %s\nwhat to do: %s", i.Refused[0].Why, i.Refused[0].Remedy)
	}
	return r.section("Not possible now", refused)
}

// verbOf is the command of 'homeward item' that does the action.
func verbOf(a vault.Action) string {
	if a == vault.Enable {
		return "protect"
	}
	for _, known := range itemActions() {
		if known.action == a {
			return known.use
		}
	}
	return string(a)
}

func itemCommands(r *remote) *cobra.Command {
	g := group("item", "Protected machines: the round trip",
		items.listCommand(r, "List the protected machines"), items.showCommand(r, "ITEM", "Show an item: state, what is possible, why the rest is not"),
		itemProtect(r))
	for _, a := range itemActions() {
		g.AddCommand(a.command(r))
	}
	g.AddCommand(itemTune(r, "pause", "Pause replication; changes are still tracked", true), itemTune(r, "resume", "Resume replication", false),
		itemPriority(r), itemPlacement(r), itemProve(r), itemProof(r), itemReassociate(r))
	return g
}

func itemTune(r *remote, use, short string, paused bool) *cobra.Command {
	return items.completed(r, r.verb(use+" ITEM", short, 1, func(ctx context.Context, v vault.Vault, args []string) error {
		i, err := v.Tune(ctx, homeward.ItemID(args[0]), vault.TuneRequest{Paused: &paused})
		if err != nil {
			return err
		}
		return r.print(i, "%s: %s", i.ID, itemState(i))
	}))
}

func itemPriority(r *remote) *cobra.Command {
	return items.completed(r, r.verb("priority ITEM N", "Set its part of bandwidth, and its turn among jobs that wait: 0 first, 9 last", 2, func(ctx context.Context, v vault.Vault, args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return homeward.Errorf("set priority", homeward.Invalid, "N", "give a number from 0 to 9", "%q", args[1])
		}
		i, err := v.Tune(ctx, homeward.ItemID(args[0]), vault.TuneRequest{Priority: &n})
		if err != nil {
			return err
		}
		return r.print(i, "%s now has priority %d", i.ID, i.Replication.Priority)
	}))
}

// priority also tells the part of bandwidth, where the process server said it.
func priority(rep vault.Replication) string {
	if rep.Weight == 0 {
		return strconv.Itoa(rep.Priority)
	}
	return fmt.Sprintf("%d (bandwidth by a weight of %d)", rep.Priority, rep.Weight)
}

func itemPlacement(r *remote) *cobra.Command {
	return items.completed(r, r.verb("placement ITEM", "Show which inputs the next reprotect takes, and which values are eligible", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		p, err := v.Placement(ctx, vault.PlacementRequest{Item: homeward.ItemID(args[0])})
		if err != nil {
			return err
		}
		rows := [][]any{{"INPUT", "VALUE", "ELIGIBLE", "WHY NOT"}}
		for _, f := range p.Fields {
			label := f.Name
			if f.Demand {
				label += " (demanded)"
			}
			if len(f.Options) == 0 {
				rows = append(rows, []any{label, "any", "", ""})
			}
			for _, o := range f.Options {
				rows = append(rows, []any{label, o.Value, yesNo(o.Eligible), o.Why})
			}
		}
		if err := r.line("direction %s > %s, policy %s", p.Direction.From, p.Direction.To, p.Policy); err != nil {
			return err
		}
		return r.printEither(p, rows)
	}))
}

func itemProve(r *remote) *cobra.Command {
	var wait bool
	var out string
	cmd := r.verb("prove ITEM", "Digest both sides at one point and sign the result", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		j, err := v.Prove(ctx, homeward.ItemID(args[0]))
		if err != nil {
			return err
		}
		if err := r.begun(ctx, v, j, wait || out != ""); err != nil || out == "" {
			return err
		}
		return r.saveProof(ctx, v, args[0], out)
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended")
	cmd.Flags().StringVar(&out, "out", "", "wait, and write the signed proof to this `file`")
	return items.completed(r, cmd)
}

func (r *remote) saveProof(ctx context.Context, v vault.Vault, id, path string) error {
	data, err := v.Proof(ctx, homeward.ItemID(id))
	if err != nil {
		return err
	}
	if err := durable.WriteFile(durable.OS(), path, data, 0o644); err != nil {
		return err
	}
	return r.line("the proof is in %s; check it with 'homeward pki verify --identity DIR %s', where DIR is a node's identity or the vault's", path, path)
}

func itemProof(r *remote) *cobra.Command {
	var out string
	cmd := r.verb("proof ITEM", "Print the newest signed proof", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if out != "" {
			return r.saveProof(ctx, v, args[0], out)
		}
		data, err := v.Proof(ctx, homeward.ItemID(args[0]))
		if err != nil {
			return err
		}
		_, err = r.out.Write(data)
		return err
	})
	cmd.Flags().StringVar(&out, "out", "", "write it to this `file`")
	return items.completed(r, cmd)
}

func itemReassociate(r *remote) *cobra.Command {
	var req vault.ReassociateRequest
	var wait, dry bool
	cmd := &cobra.Command{Use: "reassociate --from NODE [--to NODE] [ITEM...]", Short: "Move items to another process server or master target of the same site; none named: all",
		Long: "Move items to another process server or master target of the same site; none named: all.\n\n" +
			"A replica that a master target holds is led to the other one under the machine that runs: on new disks, with everything travelling once more, while the old replica can be failed over to; or, with --same-disks, on those that it is on, where the other master target can open them. The recovery points of the old one go.",
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return items.keys(cmd.Context(), r), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required("--from", req.From, "the name of a node"); err != nil {
				return err
			}
			if dry && wait {
				return homeward.Errorf("read flags", homeward.Invalid, "--wait", "leave one of them out", "--dry-run starts no job to wait for")
			}
			if req.OldIsOff && !req.SameDisks {
				return homeward.Errorf("read flags", homeward.Invalid, "--old-is-off", "leave it out, or say --same-disks, too", "new disks are made without --same-disks, and nobody has to know")
			}
			req.Items = nil
			for _, a := range args {
				req.Items = append(req.Items, homeward.ItemID(a))
			}
			return r.ask(cmd.Context(), func(ctx context.Context, v vault.Vault) error {
				if dry {
					return r.planReassociate(ctx, v, req)
				}
				return r.reassociate(ctx, v, req, wait)
			})
		}}
	f := cmd.Flags()
	f.StringVar(&req.From, "from", "", "the `node` they use")
	f.StringVar(&req.To, "to", "", "the `node` they are to use; by default the only other one that is ready")
	f.BoolVar(&req.SameDisks, "same-disks", false, "the other master target opens the disks that the replicas are on: only what differs travels, and the recovery points go at once")
	f.BoolVar(&req.OldIsOff, "old-is-off", false, "with --same-disks, for a master target that does not answer: you have seen that it is off, and it stays off")
	f.StringVar(&req.Datastore, "datastore", "", "`where` new disks are made; by default where the site makes them")
	f.StringVar(&req.Retention, "retention", "", "retention `volume`, by its path at the other master target")
	f.BoolVar(&dry, "dry-run", false, "tell what would be done, what it costs and what stops it; change nothing")
	f.BoolVar(&wait, "wait", false, "wait until the job, and those it begins, have ended")
	nodes.flag(r, cmd, "from")
	nodes.flag(r, cmd, "to")
	return cmd
}

func (r *remote) reassociate(ctx context.Context, v vault.Vault, req vault.ReassociateRequest, wait bool) error {
	what := "all items"
	if len(req.Items) > 0 {
		what = fmt.Sprint(len(req.Items)) + " items"
	}
	to := req.To
	if to == "" {
		to = "the only other one"
	}
	if err := r.confirm(fmt.Sprintf("Move %s from %s to %s? Where %s holds replicas, their recovery points go: see --dry-run.", what, req.From, to, req.From), nil); err != nil {
		return err
	}
	j, err := v.Reassociate(ctx, req)
	if err != nil {
		return err
	}
	return r.begun(ctx, v, j, wait)
}

func (r *remote) planReassociate(ctx context.Context, v vault.Vault, req vault.ReassociateRequest) error {
	page, err := v.PlanReassociate(ctx, req)
	if err != nil {
		return err
	}
	if r.json {
		if err := r.printJSON(page); err != nil {
			return err
		}
	}
	var stopped error // the first that is; the others are told all the same
	for _, p := range page.Entries {
		if !r.json {
			if err := r.printPlan(p); err != nil {
				return err
			}
		}
		if stopped == nil {
			stopped = refusal(p)
		}
	}
	return stopped
}
