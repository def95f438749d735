package apitest

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T) World {
		m := NewMemory()
		t.Cleanup(m.Close)
		return m.World(func(access vault.Access) (context.Context, vault.Vault) {
			if access == "" {
				return t.Context(), m
			}
			return vault.WithCaller(t.Context(), vault.Caller{Name: string(access), Access: access}), m
		})
	})
}
