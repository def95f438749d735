package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward/vault"
)

var sites = resource[vault.Site]{
	noun: "site", events: []string{"site", "node"}, list: vault.Vault.Sites, get: vault.Vault.Site,
	key:     func(s vault.Site) string { return s.Name },
	heading: []any{"SITE", "KIND", "CONFIGURATION SERVER", "CONNECTED", "INVENTORY READ", "WHY NOT"},
	row: func(s vault.Site) []any {
		return []any{s.Name, siteKind(s), s.Node, yesNo(s.Connected), when(s.Seen), s.Why}
	},
	show: func(r *remote, s vault.Site) error {
		var boots, lacks string
		if c := s.Capabilities; c != nil {
			boots = words(c.BootsFrom)
			for call, why := range c.Lacks {
				lacks += "\n\t" + call + ": " + why
			}
		}
		return r.details("site", s.Name, "label", s.Label, "kind", siteKind(s), "configuration server", s.Node, "connected", yesNo(s.Connected),
			"inventory read", when(s.Seen), "why not", s.Why, "boots from", boots, "cannot", lacks, "revision", s.Revision)
	},
}

func siteKind(s vault.Site) string {
	if s.Capabilities == nil {
		return "unknown"
	}
	return s.Capabilities.Kind
}

func siteCommands(r *remote) *cobra.Command {
	return group("site", "Where machines run",
		sites.listCommand(r, "List the sites"), sites.showCommand(r, "SITE", "Show a site"),
		siteAdd(r), siteRefresh(r), siteRemove(r))
}

func siteAdd(r *remote) *cobra.Command {
	var label string
	cmd := r.verb("add SITE", "Add a site; then enrol its configuration server", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		s, err := v.PutSite(ctx, vault.SiteRequest{Name: args[0], Label: label})
		if err != nil {
			return err
		}
		return r.print(s, "added site %s; next: homeward node enrol-token --role configuration-server --site %s", s.Name, s.Name)
	})
	cmd.Flags().StringVar(&label, "label", "", "what people call it")
	return cmd
}

func siteRefresh(r *remote) *cobra.Command {
	return sites.completed(r, r.verb("refresh SITE", "Read the site's inventory now", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		s, err := v.RefreshSite(ctx, args[0])
		if err != nil {
			return err
		}
		return r.print(s, "inventory of %s read at %s", s.Name, when(s.Seen))
	}))
}

func siteRemove(r *remote) *cobra.Command {
	return sites.completed(r, r.verb("remove SITE", "Remove a site that has no nodes and no items", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if err := r.confirm("Remove site "+args[0]+"?", nil); err != nil {
			return err
		}
		if err := v.DeleteSite(ctx, args[0]); err != nil {
			return err
		}
		return r.print(map[string]string{"removed": args[0]}, "removed site %s", args[0])
	}))
}
