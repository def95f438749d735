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

var policies = resource[vault.Policy]{
	noun: "policy", events: []string{"policy"}, list: vault.Vault.Policies, get: vault.Vault.Policy,
	key:     func(p vault.Policy) string { return p.Name },
	heading: []any{"POLICY", "KIND", "RPO THRESHOLD", "RETENTION", "APP-CONSISTENT", "PAIR"},
	row: func(p vault.Policy) []any {
		kind, pair := "forward", p.Pair
		if p.Failback {
			kind, pair = "failback", p.Of
		}
		return []any{p.Name, kind, span(p.Settings.RPOThreshold), tiers(p.Settings.Retention), every(p.Settings.AppEvery), pair}
	},
	show: func(r *remote, p vault.Policy) error {
		s := p.Settings
		return r.details("policy", p.Name, "failback policy", p.Pair, "failback policy of", p.Of, "rpo threshold", span(s.RPOThreshold), "retention", tiers(s.Retention),
			"app-consistent", every(s.AppEvery), "least interval", span(s.MinInterval), "saved copies in memory", size(s.CacheBytes), "on disk", size(s.SpillBytes),
			"guest agent", s.Freeze.GuestAgent, "freeze command", strings.Join(s.Freeze.FreezeCommand, " "), "orphan", s.Orphan, "resync", p.Resync, "revision", p.Revision)
	},
}

func every(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return "every " + span(d)
}

// tiers is retention as it is given: "10m,2h/1m".
func tiers(all []homeward.Tier) string {
	var s []string
	for _, t := range all {
		text := span(t.For)
		if t.Every > 0 {
			text += "/" + span(t.Every)
		}
		s = append(s, text)
	}
	return strings.Join(s, ",")
}

// parseTiers reads it: all points of 10 minutes, one a minute for 2 hours.
func parseTiers(s string) ([]homeward.Tier, error) {
	var all []homeward.Tier
	for _, part := range strings.Split(s, ",") {
		span, step, stepped := strings.Cut(strings.TrimSpace(part), "/")
		var t homeward.Tier
		var err error
		if t.For, err = time.ParseDuration(span); err == nil && stepped {
			t.Every, err = time.ParseDuration(step)
		}
		if err != nil {
			return nil, homeward.Errorf("read retention", homeward.Invalid, "--retention", "give FOR or FOR/EVERY, such as 10m,2h/1m,24h/15m", "%q", part)
		}
		all = append(all, t)
	}
	return all, nil
}

func policyCommands(r *remote) *cobra.Command {
	return group("policy", "How items replicate",
		policies.listCommand(r, "List the policies"), policies.showCommand(r, "POLICY", "Show a policy"),
		policyCreate(r), policyUpdate(r), policyDelete(r))
}

// policyFlags are the settings; those not given stay as they are.
type policyFlags struct {
	settings  homeward.Policy
	retention string
	resync    string
}

func (p *policyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&p.settings.RPOThreshold, "rpo", 15*time.Minute, "an older newest point raises an alarm")
	f.DurationVar(&p.settings.AppEvery, "app-every", 0, "how often an app-consistent point; 0: never")
	f.DurationVar(&p.settings.MinInterval, "min-interval", time.Second, "least time between two cuts")
	f.StringVar(&p.retention, "retention", "10m,2h/1m,24h/15m,72h/6h", "`tiers` FOR or FOR/EVERY: keep all of 10 minutes, one a minute for 2 hours, …")
	f.StringSliceVar(&p.settings.Freeze.FreezeCommand, "freeze-command", nil, "`words` of the command that freezes applications, at agents that were started with --allow-commands")
	f.StringSliceVar(&p.settings.Freeze.ThawCommand, "thaw-command", nil, "`words` of the command that thaws them")
	f.StringVar(&p.settings.Freeze.GuestAgent, "guest-agent", "", "`socket` of the QEMU guest agent, instead")
	f.StringVar(&p.resync, "resync", string(vault.ResyncAutomatic), "when an item whose agent lost track of writes is compared without anybody asking: automatic, manual, or `hours` of the vault's day, such as 18:00-08:00")
	f.StringVar(&p.settings.Orphan, "orphan", "", "what a returning side does when nobody can tell it: `start` or hold")
}

// onto puts the flags that are given, or all of a new policy, onto settings.
func (p *policyFlags) onto(s homeward.Policy, given func(name string) bool) (homeward.Policy, error) {
	if given("rpo") {
		s.RPOThreshold = p.settings.RPOThreshold
	}
	if given("app-every") {
		s.AppEvery = p.settings.AppEvery
	}
	if given("min-interval") {
		s.MinInterval = p.settings.MinInterval
	}
	if given("freeze-command") || given("thaw-command") || given("guest-agent") {
		s.Freeze = p.settings.Freeze
	}
	if given("orphan") {
		s.Orphan = p.settings.Orphan
	}
	if given("retention") {
		var err error
		if s.Retention, err = parseTiers(p.retention); err != nil {
			return s, err
		}
	}
	return s, nil
}

func policyCreate(r *remote) *cobra.Command {
	var p policyFlags
	cmd := r.verb("create POLICY", "Make a forward policy; its failback policy comes with it", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if _, err := v.Policy(ctx, args[0]); err == nil {
			return homeward.Errorf("create", homeward.Exists, "policy "+args[0], "change it with 'homeward policy update'", "it is there already")
		} else if homeward.KindOf(err) != homeward.NotFound {
			return err
		}
		settings, err := p.onto(homeward.Policy{}, func(string) bool { return true })
		if err != nil {
			return err
		}
		made, err := v.PutPolicy(ctx, vault.PolicyRequest{Name: args[0], Settings: settings, Resync: vault.ResyncRule(p.resync)})
		if err != nil {
			return err
		}
		return r.print(made, "created policy %s, and its failback policy %s", made.Name, made.Pair)
	})
	p.add(cmd)
	return cmd
}

func policyUpdate(r *remote) *cobra.Command {
	var p policyFlags
	var cmd *cobra.Command
	cmd = r.verb("update POLICY", "Change what is given of a forward policy", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		now, err := v.Policy(ctx, args[0])
		if err != nil {
			return err
		}
		settings, err := p.onto(now.Settings, cmd.Flags().Changed)
		if err != nil {
			return err
		}
		resync := now.Resync
		if cmd.Flags().Changed("resync") {
			resync = vault.ResyncRule(p.resync)
		}
		changed, err := v.PutPolicy(ctx, vault.PolicyRequest{Name: args[0], Settings: settings, Resync: resync, Revision: now.Revision})
		if err != nil {
			return err
		}
		return r.print(changed, "policy %s is now at revision %d", changed.Name, changed.Revision)
	})
	p.add(cmd)
	return policies.completed(r, cmd)
}

func policyDelete(r *remote) *cobra.Command {
	return policies.completed(r, r.verb("delete POLICY", "Delete a forward policy that no item uses, with its failback policy", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if err := r.confirm(fmt.Sprintf("Delete policy %s?", args[0]), nil); err != nil {
			return err
		}
		if err := v.DeletePolicy(ctx, args[0]); err != nil {
			return err
		}
		return r.print(map[string]string{"deleted": args[0]}, "deleted policy %s", args[0])
	}))
}
