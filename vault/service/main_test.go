package service

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/store/storetest"
)

var server storetest.PostgreSQL

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		server.Close()
		os.Exit(code)
	}))
}

// newFile is the URL of an empty SQLite database.
func newFile(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "vault.db") }

// onBoth runs a test with an empty database of each kind.
func onBoth(t *testing.T, test func(t *testing.T, url string)) {
	for kind, url := range map[string]func(testing.TB) string{store.SQLite: newFile, store.PostgreSQL: server.Database} {
		t.Run(kind, func(t *testing.T) { test(t, url(t)) })
	}
}
