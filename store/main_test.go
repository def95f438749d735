package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// TestMain also is the process that TestKilled kills.
func TestMain(m *testing.M) {
	if url := os.Getenv("STORE_TEST_CHILD"); url != "" {
		insertForEver(url)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if server.dir != "" {
			server.stop("immediate")
			_ = os.RemoveAll(server.dir)
		}
		os.Exit(code)
	}))
}

// server is a PostgreSQL server on a socket in a temporary directory, started by
// the first test that asks for a database.
var server postgres

type postgres struct {
	once sync.Once
	dir  string
	err  error
	last atomic.Int64 // database
}

// nobody runs the server when the tests run as root, which it refuses.
const nobody = 65534

func startServer() error {
	for _, tool := range []string{"initdb", "pg_ctl", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed and not installed: run hack/deps.sh, or install postgresql and util-linux: %w", tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "homeward-pg-")
	if err != nil {
		return err
	}
	server.dir = dir
	if os.Getuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return err
		}
	}
	if err := asNobody("initdb", "-D", dir+"/data", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"); err != nil {
		return err
	}
	return runServer()
}

func runServer() error {
	return asNobody("pg_ctl", "-D", server.dir+"/data", "-l", server.dir+"/log", "-w", "-o",
		"-c listen_addresses='' -c fsync=off -c shared_buffers=32MB -c max_connections=60 -c dynamic_shared_memory_type=mmap -k "+server.dir, "start")
}

func (s *postgres) stop(how string) {
	_ = asNobody("pg_ctl", "-D", s.dir+"/data", "-m", how, "-w", "stop")
}

func asNobody(name string, args ...string) error {
	args = append([]string{"env", "HOME=/tmp", "LC_ALL=C", name}, args...)
	if os.Getuid() == 0 {
		args = append([]string{"setpriv", fmt.Sprint("--reuid=", nobody), fmt.Sprint("--regid=", nobody), "--clear-groups"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	out, err := os.Create(filepath.Join(server.dir, name+".out")) // a pipe would stay open in the server
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %w\n%s", name, err, text)
	}
	return nil
}

func serverURL(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=postgres", database, server.dir)
}

// newDatabase is the URL of an empty database.
func newDatabase(t testing.TB) string {
	t.Helper()
	server.once.Do(func() { server.err = startServer() })
	must(t, server.err)
	name := fmt.Sprint("t", server.last.Add(1))
	// A language that does not sort by bytes would show an order that goes by it.
	asSuperuser(t, "CREATE DATABASE "+name+" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
	return serverURL(name)
}

func asSuperuser(t testing.TB, statement string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, serverURL("postgres"))
	must(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	must(t, err)
}

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
