package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward/vault"
)

var tokens = resource[vault.APIToken]{
	noun: "token", list: vault.Vault.Tokens,
	key:     func(t vault.APIToken) string { return t.Name },
	heading: []any{"TOKEN", "ACCESS", "EXPIRES", "LAST USED"},
	row: func(t vault.APIToken) []any {
		expires := when(t.Expires)
		if expires == "" {
			expires = "never"
		}
		return []any{t.Name, t.Access, expires, when(t.Used)}
	},
}

func tokenCommands(r *remote) *cobra.Command {
	return group("token", "Who may call the API", tokenCreate(r), tokens.listCommand(r, "List the API tokens"), tokenDelete(r))
}

func tokenCreate(r *remote) *cobra.Command {
	var req vault.TokenRequest
	var access string
	cmd := r.verb("create TOKEN --access ACCESS", "Make an API token and print its secret, this once", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		req.Name, req.Access = args[0], vault.Access(access)
		t, err := v.CreateToken(ctx, req)
		if err != nil {
			return err
		}
		return r.print(t, "%s", t.Secret)
	})
	cmd.Flags().StringVar(&access, "access", string(vault.Reader), "`access`: reader, operator, contributor or administrator")
	cmd.Flags().DurationVar(&req.Lifetime, "lifetime", 0, "how long it is valid; 0: until it is deleted")
	return cmd
}

func tokenDelete(r *remote) *cobra.Command {
	return tokens.completed(r, r.verb("delete TOKEN", "Delete an API token: it is refused from now on", 1, func(ctx context.Context, v vault.Vault, args []string) error {
		if err := r.confirm(fmt.Sprintf("Delete token %s?", args[0]), nil); err != nil {
			return err
		}
		if err := v.DeleteToken(ctx, args[0]); err != nil {
			return err
		}
		return r.print(map[string]string{"deleted": args[0]}, "deleted token %s", args[0])
	}))
}
