package service

import (
	"context"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api/apitest" //nolint:depguard // the suite of the contract that both keep, not the face
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// careful shuts a machine down before its protection is disabled, as an operator does
// who wants the item gone at once: one that runs keeps its agent's disks.
type careful struct {
	vault.Vault
	r *rig
}

func (c careful) Act(ctx context.Context, req vault.ActionRequest) (vault.Job, error) {
	if caller, err := vault.CallerOf(ctx); err == nil && caller.Access.Includes(vault.Contributor) && req.Action == vault.Disable {
		_, err := c.r.sites["home"].PowerOff(ctx, "by hand", homeward.Ref{Native: "m0"}, homeward.Stop{Graceful: true})
		if err != nil {
			return vault.Job{}, err
		}
	}
	return c.Vault.Act(ctx, req)
}

// The vault keeps what the contract promises, as the client in front of it does.
func TestConformance(t *testing.T) {
	apitest.Run(t, func(t *testing.T) apitest.World {
		r, ctx := newRig(t, world.Options{})
		return apitest.World{Site: "home", Target: "away", Machine: "home/m0", Node: "ps-home", Policy: "gold", Network: "isolated",
			As: func(a vault.Access) (context.Context, vault.Vault) {
				if a == "" {
					return ctx, r.Service
				}
				return as(ctx, a), careful{r.Service, r}
			}}
	})
}
