package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

var nodes = resource[vault.Node]{
	noun: "node", events: []string{"node"}, filters: []string{"site", "role", "state"}, list: vault.Vault.Nodes, get: vault.Vault.Node,
	key:     func(n vault.Node) string { return n.Name },
	heading: []any{"NODE", "ROLE", "SITE", "STATE", "VERSION", "LAST HEARTBEAT", "ADDRESSES"},
	row: func(n vault.Node) []any {
		return []any{n.Name, n.Role, n.Site, n.State, n.Version, when(n.Heartbeat), addresses(n.Addresses)}
	},
	show: showNode,
}

func addresses(all []vault.Address) string {
	var s []string
	for _, a := range all {
		s = append(s, fmt.Sprintf("%s (%s)", a.Host, a.Purpose))
	}
	return strings.Join(s, ", ")
}

func showNode(r *remote, n vault.Node) error {
	err := r.details("node", n.Name, "role", n.Role, "site", n.Site, "state", n.State, "version", n.Version, "enrolled", when(n.Enrolled),
		"last heartbeat", when(n.Heartbeat), "clock off by", span(n.Skew), "addresses", addresses(n.Addresses),
		"certificate expires", when(n.Expires), "system", strings.TrimSpace(n.Health.OSFamily+" "+n.Health.OSVersion), "disks held", n.Health.Disks, "revision", n.Revision)
	if err != nil {
		return err
	}
	reach := [][]any{{"PEER", "ADDRESS", "REACHABLE", "ROUND TRIP", "THROUGHPUT", "AT", "WHY NOT"}}
	for _, p := range n.Reachables {
		rate := "not measured"
		if p.Rate > 0 {
			rate = size(int64(p.Rate)) + "/s"
		}
		reach = append(reach, []any{p.Peer, p.URL, yesNo(p.Reachable), span(p.RTT), rate, when(p.At), p.Why})
	}
	if err := r.section("Reaches", reach); err != nil {
		return err
	}
	volumes := [][]any{{"VOLUME", "FILE SYSTEM", "SIZE", "FREE", "USES", "DEFAULT"}}
	for _, vol := range n.Health.Volumes {
		volumes = append(volumes, []any{vol.Path, vol.FSType, size(vol.Size), size(vol.Free), words(vol.Uses), yesNo(vol.Default)})
	}
	if err := r.section("Volumes", volumes); err != nil {
		return err
	}
	alarms := [][]any{{"ALARM", "SINCE", "TEXT", "WHAT TO DO"}}
	for _, a := range n.Health.Alarms {
		alarms = append(alarms, []any{a.Code, when(a.Since), a.Text, a.Remedy})
	}
	return r.section("Alarms", alarms)
}

var enrolments = resource[vault.EnrolmentToken]{
	noun: "enrolment", filters: []string{"site", "role"}, list: vault.Vault.Enrolments,
	key:     func(t vault.EnrolmentToken) string { return t.ID },
	heading: []any{"TOKEN", "ROLE", "SITE", "FOR NODE", "EXPIRES", "USED BY"},
	row: func(t vault.EnrolmentToken) []any {
		return []any{t.ID, t.Role, t.Site, t.Node, when(t.Expires), t.UsedBy}
	},
}

func nodeCommands(r *remote) *cobra.Command {
	return group("node", "Configuration servers, agents, process servers and master targets",
		nodes.listCommand(r, "List the nodes"), nodes.showCommand(r, "NODE", "Show a node: health, ways to its peers, volumes"),
		nodeEnrolToken(r),
		group("enrolment", "Tokens that admit nodes", enrolments.listCommand(r, "List enrolment tokens")),
		nodeRevoke(r), nodeAddress(r), nodeLimit(r))
}

func nodeEnrolToken(r *remote) *cobra.Command {
	var req vault.EnrolmentRequest
	var role string
	cmd := r.verb("enrol-token --role ROLE --site SITE", "Make a one-time token that admits a node", 0, func(ctx context.Context, v vault.Vault, _ []string) error {
		for _, f := range [][3]string{
			{"--role", role, "what the node is: configuration-server, agent, process-server or master-target"},
			{"--site", req.Site, "the site at which it stands; 'homeward site list' has them"},
		} {
			if err := required(f[0], f[1], f[2]); err != nil {
				return err
			}
		}
		req.Role = pki.Role(role)
		t, err := v.CreateEnrolment(ctx, req)
		if err != nil {
			return err
		}
		return r.print(t, "%s", t.Secret)
	})
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "`role`: configuration-server, agent, process-server or master-target")
	f.StringVar(&req.Site, "site", "", "`site` at which it stands")
	f.StringVar(&req.Node, "node", "", "the only `name` it admits")
	f.DurationVar(&req.Lifetime, "lifetime", 0, "how long it can be used; 0: one hour; at most 168h")
	sites.flag(r, cmd, "site")
	oneOf(cmd, "role", string(pki.ConfigurationServer), string(pki.Agent), string(pki.ProcessServer), string(pki.MasterTarget))
	return cmd
}

func nodeRevoke(r *remote) *cobra.Command {
	return nodes.completed(r, r.verb("revoke NODE", "Revoke a node's certificate: it cannot come back", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if err := r.confirm("Revoke "+args[0]+" for good?", nil); err != nil {
			return err
		}
		n, err := v.RevokeNode(ctx, args[0])
		if err != nil {
			return err
		}
		return r.print(n, "revoked %s %s", n.Role, n.Name)
	}))
}

func nodeAddress(r *remote) *cobra.Command {
	var production, failback []string
	cmd := r.verb("address NODE", "Replace the addresses at which peers reach a node", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		var all []vault.Address
		for _, h := range production {
			all = append(all, vault.Address{Host: h, Purpose: vault.Production})
		}
		for _, h := range failback {
			all = append(all, vault.Address{Host: h, Purpose: vault.Failback})
		}
		if len(all) == 0 {
			return homeward.Errorf("set addresses", homeward.Invalid, "--production", "give one with --production or --failback", "no address is given")
		}
		n, err := v.SetAddresses(ctx, args[0], all)
		if err != nil {
			return err
		}
		return r.print(n, "%s is reached at %s", n.Name, addresses(n.Addresses))
	})
	cmd.Flags().StringSliceVar(&production, "production", nil, "`host:port` in the production network")
	cmd.Flags().StringSliceVar(&failback, "failback", nil, "`host:port` in the failback network (R55, R56)")
	return nodes.completed(r, cmd)
}

func nodeLimit(r *remote) *cobra.Command {
	var rate, days, from, to, target string
	cmd := r.verb("limit PROCESS-SERVER --rate SIZE", "Limit what a process server sends, from now on", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if err := required("--rate", rate, "bytes a second, such as 10MiB, or 0 for no limit"); err != nil {
			return err
		}
		n, err := lab.ParseSize(rate)
		if err != nil {
			return err
		}
		w := homeward.Window{From: from, To: to, BytesPerSecond: n}
		if w.Days, err = weekdays(days); err != nil {
			return err
		}
		if err := v.Limit(ctx, args[0], homeward.LimitRequest{Target: target, Schedule: []homeward.Window{w}}); err != nil {
			return err
		}
		return r.print(map[string]any{"node": args[0], "schedule": []homeward.Window{w}}, "%s now sends %s", args[0], limited(w))
	})
	f := cmd.Flags()
	f.StringVar(&rate, "rate", "", "`size` a second, such as 10MiB; 0: no limit")
	f.StringVar(&days, "days", "", "only on these `days`, such as mon,tue")
	f.StringVar(&from, "from", "", "only from this `time` of the day, 08:00")
	f.StringVar(&to, "to", "", "only until this `time`, 18:00")
	f.StringVar(&target, "target", "", "only to this master target, by `URL`")
	return nodes.completed(r, cmd)
}

// limited says what a window allows.
func limited(w homeward.Window) string {
	s := "without a limit"
	if w.BytesPerSecond > 0 {
		s = "at most " + size(w.BytesPerSecond) + " a second"
	}
	if w.From != "" || w.To != "" || len(w.Days) > 0 {
		s += ", in that time"
	}
	return s
}

// weekdays reads "mon,tue".
func weekdays(s string) ([]time.Weekday, error) {
	if s == "" {
		return nil, nil
	}
	names := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	var days []time.Weekday
	for _, d := range strings.Split(strings.ToLower(s), ",") {
		i := slices.Index(names, strings.TrimSpace(d))
		if i < 0 {
			return nil, homeward.Errorf("read days", homeward.Invalid, "--days", "give some of "+strings.Join(names, ","), "no such day: %q", d)
		}
		days = append(days, time.Weekday(i))
	}
	return days, nil
}
