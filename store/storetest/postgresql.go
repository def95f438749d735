// Package storetest runs a PostgreSQL server for tests of what stands on a store.
package storetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgreSQL is a server on a socket in a temporary directory, started by the first test
// that asks for a database. The zero value is ready; Close it when all tests have run. A
// tool that is missing fails the test.
type PostgreSQL struct {
	once sync.Once
	dir  string
	err  error
	last atomic.Int64 // database
}

// nobody runs the server when the tests run as root, which it refuses.
const nobody = 65534

// Database is the URL of a new, empty database.
func (s *PostgreSQL) Database(t testing.TB) string {
	t.Helper()
	if err := s.Ensure(); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprint("t", s.last.Add(1))
	// A language that does not sort by bytes would show an order that goes by it.
	s.Exec(t, "CREATE DATABASE "+name+" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
	return s.URL(name)
}

// Ensure starts the server the first time it is called.
func (s *PostgreSQL) Ensure() error {
	s.once.Do(func() { s.err = s.make() })
	return s.err
}

// URL is that of a database of the server; "postgres" is always there.
func (s *PostgreSQL) URL(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&user=postgres", database, s.dir)
}

// Exec runs a statement as the superuser, in the database "postgres".
func (s *PostgreSQL) Exec(t testing.TB, statement string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // the statement has been answered
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatal(err)
	}
}

func (s *PostgreSQL) make() error {
	for _, tool := range []string{"initdb", "pg_ctl", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed and not installed: run hack/deps.sh, or install postgresql and util-linux: %w", tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "homeward-pg-")
	if err != nil {
		return err
	}
	s.dir = dir
	if os.Getuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return err
		}
	}
	if err := s.run("initdb", "-D", dir+"/data", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"); err != nil {
		return err
	}
	return s.Start()
}

// Start starts the server again after Stop.
func (s *PostgreSQL) Start() error {
	return s.run("pg_ctl", "-D", s.dir+"/data", "-l", s.dir+"/log", "-w", "-o",
		"-c listen_addresses='' -c fsync=off -c shared_buffers=32MB -c max_connections=60 -c dynamic_shared_memory_type=mmap -k "+s.dir, "start")
}

// Stop stops it: "fast", or "immediate", which is a crash.
func (s *PostgreSQL) Stop(how string) error {
	return s.run("pg_ctl", "-D", s.dir+"/data", "-m", how, "-w", "stop")
}

// Close stops the server, if there is one, and removes all its data.
func (s *PostgreSQL) Close() {
	if s.dir != "" {
		_ = s.Stop("immediate") // it may have been stopped
		_ = os.RemoveAll(s.dir)
	}
}

func (s *PostgreSQL) run(name string, args ...string) error {
	args = append([]string{"env", "HOME=/tmp", "LC_ALL=C", name}, args...)
	if os.Getuid() == 0 {
		args = append([]string{"setpriv", fmt.Sprint("--reuid=", nobody), fmt.Sprint("--regid=", nobody), "--clear-groups"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	out, err := os.OpenFile(filepath.Join(s.dir, name+".out"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // a pipe would stay open in the server
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // read below by its name
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %w\n%s", name, err, text)
	}
	return nil
}
