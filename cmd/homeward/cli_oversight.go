package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

var alerts = resource[vault.Alert]{
	noun: "alert", events: []string{"alert"}, filters: []string{"site", "item", "state"}, list: vault.Vault.Alerts,
	key:     func(a vault.Alert) string { return a.ID },
	heading: []any{"ALERT", "SEVERITY", "SUBJECT", "RAISED", "CLEARED", "ACKNOWLEDGED", "TEXT", "WHAT TO DO"},
	row: func(a vault.Alert) []any {
		return []any{a.ID, a.Severity, a.Subject, when(a.Raised), when(a.Cleared), a.AckedBy, a.Text, a.Remedy}
	},
}

func alertCommands(r *remote) *cobra.Command {
	ack := alerts.completed(r, r.verb("ack ALERT", "Say that somebody looks after an alert", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		a, err := v.AcknowledgeAlert(ctx, args[0])
		if err != nil {
			return err
		}
		return r.print(a, "alert %s is acknowledged by %s", a.ID, a.AckedBy)
	}))
	list := alerts.listCommand(r, "List the alerts")
	list.Flags().Lookup("state").Usage = "only those of this `state`: raised or cleared"
	oneOf(list, "state", "raised", "cleared")
	return group("alert", "What somebody should know", list, ack)
}

var auditLog = resource[vault.AuditEntry]{
	noun: "audit entry", filters: []string{"item"}, list: vault.Vault.Audit,
	key:     func(e vault.AuditEntry) string { return fmt.Sprint(e.ID) },
	heading: []any{"AT", "CALLER", "FROM", "ACTION", "SUBJECT", "OUTCOME", "DETAIL"},
	row: func(e vault.AuditEntry) []any {
		return []any{when(e.At), e.Caller, e.From, e.Action, e.Subject, e.Outcome, e.Detail}
	},
}

func auditCommands(r *remote) *cobra.Command {
	return group("audit", "Who asked for what", auditLog.listCommand(r, "List what was asked for, and what became of it"))
}

func readinessCommand(r *remote) *cobra.Command {
	var all, history bool
	cmd := r.verb("readiness ITEM", "Say whether an item could come home now, and what stands in the way", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		ready, err := v.Readiness(ctx, homeward.ItemID(args[0]))
		if err != nil {
			return err
		}
		if r.json {
			err = r.printJSON(ready)
		} else {
			err = r.printReadiness(ready, all, history)
		}
		if err != nil || ready.Score.Ready {
			return err
		}
		return &exitError{exitNotReady, homeward.Errorf("check readiness", homeward.Conflict, "item "+args[0], "do what the findings say; --all shows every check", "%s", score(ready.Score))}
	})
	cmd.Flags().BoolVar(&all, "all", false, "also show checks that are ok, or do not apply")
	cmd.Flags().BoolVar(&history, "history", false, "show how the score changed")
	return items.completed(r, cmd)
}

func (r *remote) printReadiness(ready vault.Readiness, all, history bool) error {
	if err := r.line("%s: %s", ready.Item, score(ready.Score)); err != nil {
		return err
	}
	if err := r.section("Findings", findingRows(ready.Findings, all)); err != nil || !history {
		return err
	}
	rows := [][]any{{"AT", "SCORE"}}
	for _, s := range ready.History {
		rows = append(rows, []any{when(s.At), score(s)})
	}
	return r.section("History", rows)
}

func statusCommand(r *remote) *cobra.Command {
	return r.verb("status", "Show how the vault stands", 0, func(ctx context.Context, v vault.Vault, _ []string) error {
		s, err := v.Status(ctx)
		if err != nil {
			return err
		}
		return r.printStatus(ctx, v, s)
	})
}

func (r *remote) printStatus(ctx context.Context, v vault.Vault, s vault.Status) error {
	if r.json {
		return r.printJSON(s)
	}
	away, err := nodes.some(ctx, v, vault.Query{State: string(vault.NodeDisconnected)}, 0)
	if err != nil {
		return err
	}
	nodesText := fmt.Sprint(s.Nodes)
	if len(away) > 0 {
		nodesText += fmt.Sprintf(", of which %d disconnected ('homeward node list')", len(away))
	}
	raised, err := alerts.some(ctx, v, vault.Query{State: "raised"}, 0)
	if err != nil {
		return err
	}
	alertsText := "0"
	if len(raised) > 0 {
		alertsText = fmt.Sprintf("%d ('homeward alert list --state raised')", len(raised))
	}
	mode := "in service"
	if s.ReadOnly {
		mode = "read-only: " + s.Why
	}
	return r.details("vault", mode, "version", s.Version, "epoch", s.Epoch, "store", s.Store, "nodes", nodesText, "items", s.Items,
		"running jobs", s.Running, "alerts", alertsText, "addresses", addresses(s.Addresses), "not heard since the restore", strings.Join(s.Unheard, ", "),
		"moved without it (homeward item adopt)", strings.Join(s.Moved, ", "))
}

func reconcileCommand(r *remote) *cobra.Command {
	var force bool
	cmd := r.verb("reconcile", "End the read-only state of a restored vault", 0, func(ctx context.Context, v vault.Vault, _ []string) error {
		if force {
			if err := r.confirm("Put the vault in service although nodes have not reported? What they did meanwhile is not known.", nil); err != nil {
				return err
			}
		}
		s, err := v.Reconcile(ctx, force)
		if err != nil {
			return err
		}
		return r.printStatus(ctx, v, s)
	})
	cmd.Flags().BoolVar(&force, "force", false, "also while nodes have not reported")
	return cmd
}
