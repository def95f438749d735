package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/store/storetest"
	"github.com/homeward-dr/homeward/vault"
)

// TestMain also is the process that TestKilled kills.
func TestMain(m *testing.M) {
	if url := os.Getenv("STORE_TEST_CHILD"); url != "" {
		insertForEver(url)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		server.Close()
		os.Exit(code)
	}))
}

var server storetest.PostgreSQL

// newDatabase is the URL of an empty database.
func newDatabase(t testing.TB) string { return server.Database(t) }

func newFile(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "vault.db") }

// kinds are where each test runs.
var kinds = []struct {
	name string
	url  func(testing.TB) string
}{{SQLite, newFile}, {PostgreSQL, newDatabase}}

// both runs a test on an empty store of each kind.
func both(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, open(t, k.url(t))) })
	}
}

// bothURLs runs a test that opens stores by itself.
func bothURLs(t *testing.T, test func(t *testing.T, url string)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k.url(t)) })
	}
}

func config(url string) Config {
	return Config{URL: url, Log: slog.New(slog.DiscardHandler), Patience: 300 * time.Millisecond}
}

func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), config(url))
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// refused demands an error of a kind, with something to do about it.
func refused(t testing.TB, err error, kind homeward.Kind, says string) {
	t.Helper()
	if homeward.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), says) || homeward.RemedyOf(err) == "" {
		t.Fatalf("want %s about %q with a remedy: %s, %v", kind, says, homeward.KindOf(err), err)
	}
}

// got is what a call answered, without an error.
func got[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// insertForEver adds jobs and says the id of each once it is in the store.
func insertForEver(url string) {
	ctx := context.Background()
	s, err := Open(ctx, config(url))
	for n := 0; err == nil; n++ {
		id := fmt.Sprintf("job-%08d", n)
		err = s.Tx(ctx, func(ctx context.Context) error {
			if err := s.Jobs.Insert(ctx, &vault.Job{ID: id, State: vault.JobRunning}); err != nil {
				return err
			}
			return s.SetSetting(ctx, "last", id)
		})
		if err == nil {
			_, err = io.WriteString(os.Stdout, id+"\n")
		}
	}
	_, _ = fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
