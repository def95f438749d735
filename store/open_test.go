package store

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

func TestWrongURLs(t *testing.T) {
	for _, url := range []string{"", "sqlite:", "/x/vault.db", "mysql://root:hw-password@host/db"} {
		_, err := Open(t.Context(), Config{URL: url})
		refused(t, err, homeward.Invalid, "url")
		if strings.Contains(err.Error(), "hw-password") {
			t.Fatal(err)
		}
	}
	_, err := Open(t.Context(), Config{URL: "postgres://u:hw-password@host:port/db"})
	refused(t, err, homeward.Invalid, "url")
	if strings.Contains(err.Error(), "hw-password") {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Config{URL: "sqlite:" + t.TempDir() + "/none/vault.db"})
	refused(t, err, homeward.NotFound, "none")
	_, err = Open(t.Context(), Config{URL: "postgres://u:hw-password@127.0.0.1:1/db"})
	refused(t, err, homeward.Unavailable, "127.0.0.1")
	if strings.Contains(err.Error(), "hw-password") {
		t.Fatal(err)
	}
	newDatabase(t) // the server runs
	_, err = Open(t.Context(), Config{URL: server.URL("none")})
	refused(t, err, homeward.NotFound, "none")
	_, err = Open(t.Context(), Config{URL: strings.Replace(server.URL("postgres"), "user=postgres", "user=none", 1)})
	refused(t, err, homeward.Unauthentic, "none")
}

// Closing waits for a transaction that runs: it is kept, and the next vault has to
// wait for its end.
func TestCloseWaits(t *testing.T) {
	bothURLs(t, func(t *testing.T, url string) {
		s := open(t, url)
		closed := make(chan error, 1)
		must(t, s.Tx(t.Context(), func(ctx context.Context) error {
			go func() { closed <- s.Close() }()
			must(t, s.Sites.Insert(ctx, &vault.Site{Name: "home"}))
			_, err := Open(t.Context(), config(url))
			refused(t, err, homeward.InUse, "process")
			return s.Sites.Insert(ctx, &vault.Site{Name: "away"})
		}))
		must(t, <-closed)
		if n := len(got(open(t, url).Sites.List(t.Context(), vault.Query{}))(t).Entries); n != 2 {
			t.Fatalf("%d of 2", n)
		}
	})
}

// What is in the way of a URL is no trouble in a file name.
func TestOddPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%41?x=y#z&.db")
	s := open(t, "sqlite:"+path)
	must(t, s.Sites.Insert(t.Context(), &vault.Site{Name: "home"}))
	for _, file := range []string{path, path + "-wal"} {
		info, err := os.Stat(file)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Fatalf("%s may be read by others: %v", file, info.Mode())
		}
	}
}

func TestSecondVaultRefused(t *testing.T) {
	bothURLs(t, func(t *testing.T, url string) {
		s, err := Open(t.Context(), config(url))
		must(t, err)
		_, err = Open(t.Context(), config(url))
		refused(t, err, homeward.InUse, fmt.Sprint("process ", os.Getpid()))
		refused(t, Restore(t.Context(), config(url), strings.NewReader(string(backupOf(t, s)))), homeward.InUse, "process")
		if path, isFile := strings.CutPrefix(url, "sqlite:"); isFile {
			must(t, os.Symlink(path, path+".link"))
			_, err = Open(t.Context(), config(url+".link"))
			refused(t, err, homeward.InUse, "process")
		}
		must(t, s.Close())
		open(t, url)
	})
}

func TestOpenAgainAndNewerSchema(t *testing.T) {
	bothURLs(t, func(t *testing.T, url string) {
		s, err := Open(t.Context(), config(url))
		must(t, err, s.Sites.Insert(t.Context(), &vault.Site{Name: "home"}), s.Close())
		s, err = Open(t.Context(), config(url))
		must(t, err)
		if v := got(s.Sites.Get(t.Context(), "home"))(t); v.Revision != 1 {
			t.Fatalf("%+v", v)
		}
		// Another program adds to a document, and this one reads it still.
		_, err = s.writer.Exec(`UPDATE sites SET doc = '{"name":"home","of_the_future":{"x":1}}'`)
		must(t, err)
		got(s.Sites.Get(t.Context(), "home"))(t)
		_, err = s.writer.Exec(`UPDATE sites SET doc = '{"name":'`)
		must(t, err)
		_, err = s.Sites.Get(t.Context(), "home")
		refused(t, err, homeward.Corrupt, "home")

		_, err = s.writer.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, " + map[string]string{SQLite: "1", PostgreSQL: "true"}[s.kind] + ")")
		must(t, err, s.Close())
		_, err = Open(t.Context(), config(url))
		refused(t, err, homeward.Unsupported, "version 99, and this program knows 1")
	})
}

// The schema can be taken back and made again.
func TestMigrationsBothWays(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		p := got(s.provider())(t)
		_, err := p.DownTo(t.Context(), 0)
		must(t, err)
		if current, _, err := s.schema(t.Context()); current != 0 || err != nil {
			t.Fatal(current, err)
		}
		must(t, s.migrate(t.Context(), newest))
		must(t, s.Sites.Insert(t.Context(), &vault.Site{Name: "home"}))
	})
}

// A vault that is killed has kept all that it acknowledged, and nothing by halves.
func TestKilled(t *testing.T) {
	bothURLs(t, func(t *testing.T, url string) {
		acknowledged := 0
		for round := range 3 {
			if round > 0 { // the child begins anew
				s := open(t, url)
				for j, err := range s.Jobs.All(t.Context(), vault.Query{}) {
					must(t, err, s.Jobs.Delete(t.Context(), j.ID))
				}
				must(t, s.Close())
			}
			last := killedAfter(t, url, 20+100*round)
			s, err := Open(t.Context(), config(url))
			must(t, err)
			count := 0
			newest := ""
			for j, err := range s.Jobs.All(t.Context(), vault.Query{}) {
				must(t, err)
				count++
				newest = max(newest, j.ID)
			}
			kept := got(s.Setting(t.Context(), "last"))(t)
			if count < last+1 || count > last+2 || newest != fmt.Sprintf("job-%08d", count-1) || kept != newest {
				t.Fatalf("%d were acknowledged, %d are kept, the last %q, and a setting %q", last+1, count, newest, kept)
			}
			acknowledged += count
			must(t, s.Close())
		}
		s := open(t, url)
		events := got(s.LastEvent(t.Context()))(t)
		left := len(got(s.Jobs.List(t.Context(), vault.Query{Limit: 1000}))(t).Entries)
		if int(events) != acknowledged+acknowledged-left { // created and removed
			t.Fatalf("%d events of %d jobs, %d left", events, acknowledged, left)
		}
	})
}

// killedAfter is the number of the last job that a child acknowledged before it
// was killed.
func killedAfter(t *testing.T, url string, jobs int) int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "STORE_TEST_CHILD="+url)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err, child.Start())
	lines := bufio.NewScanner(out)
	last := -1
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "job-%d", &last); err != nil {
			t.Fatal(err)
		}
		if last == jobs {
			must(t, child.Process.Kill())
		}
	}
	_ = child.Wait() // killed
	if last < jobs {
		t.Fatalf("the child ended after %d", last)
	}
	return last
}

// Another program holds the database for longer than the vault waits.
func TestLockedByAnotherProgram(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.Sites.Insert(ctx, &vault.Site{Name: "home"}))
		var conn *sql.Conn
		statements := []string{"BEGIN IMMEDIATE"}
		if s.kind == PostgreSQL {
			conn = got(s.reader.Conn(ctx))(t)
			statements = []string{"BEGIN", "LOCK TABLE sites"}
		} else {
			db, err := sql.Open("sqlite", sqliteName(s.where, nil))
			must(t, err)
			defer db.Close()
			conn = got(db.Conn(ctx))(t)
		}
		defer conn.Close()
		for _, statement := range statements {
			_, err := conn.ExecContext(ctx, statement)
			must(t, err)
		}
		refused(t, s.Sites.Insert(ctx, &vault.Site{Name: "away"}), homeward.Busy, s.where)
		_, err := conn.ExecContext(ctx, "ROLLBACK")
		must(t, err, s.Sites.Insert(ctx, &vault.Site{Name: "away"}))
	})
}

func TestFullDisk(t *testing.T) {
	s := open(t, newFile(t))
	_, err := s.writer.Exec("PRAGMA max_page_count = 100") // SQLite then says what it says of a full disk
	must(t, err)
	kept := 0
	for ; err == nil; kept++ {
		err = s.Sites.Insert(t.Context(), &vault.Site{Name: fmt.Sprintf("s%04d", kept), Label: strings.Repeat("x", 3000)})
	}
	refused(t, err, homeward.NoSpace, s.where)
	refused(t, s.SetSetting(t.Context(), "long", strings.Repeat("x", 100_000)), homeward.NoSpace, s.where)
	if n := len(got(s.Sites.List(t.Context(), vault.Query{Limit: 1000}))(t).Entries); n != kept-1 || n < 10 {
		t.Fatalf("%d of %d", n, kept-1)
	}
	// Whoever overlooks that in a transaction keeps nothing of it.
	err = s.Tx(t.Context(), func(ctx context.Context) error {
		must(t, s.SetSetting(ctx, "before", "x"))
		refused(t, s.SetSetting(ctx, "long", strings.Repeat("x", 100_000)), homeward.NoSpace, s.where)
		refused(t, s.SetSetting(ctx, "after", "x"), homeward.NoSpace, s.where)
		return nil
	})
	refused(t, err, homeward.NoSpace, s.where)
	if got(s.Setting(t.Context(), "before"))(t)+got(s.Setting(t.Context(), "after"))(t) != "" {
		t.Fatal("half a transaction")
	}
	_, err = s.writer.Exec("PRAGMA max_page_count = 100000")
	must(t, err, s.Sites.Insert(t.Context(), &vault.Site{Name: "more"}))
}

// The server goes away for a while: calls fail with Unavailable, and work again
// when it is back.
func TestServerGoneForAWhile(t *testing.T) {
	s := open(t, newDatabase(t))
	ctx := t.Context()
	must(t, s.Sites.Insert(ctx, &vault.Site{Name: "home"}))
	must(t, server.Stop("immediate"))
	for range 3 {
		refused(t, s.Sites.Insert(ctx, &vault.Site{Name: "away"}), homeward.Unavailable, s.where)
		_, err := s.Sites.Get(ctx, "home")
		refused(t, err, homeward.Unavailable, s.where)
	}
	must(t, server.Start())
	must(t, s.Sites.Insert(ctx, &vault.Site{Name: "away"}))
	got(s.Sites.Get(ctx, "home"))(t)
}

// A vault that lost its connection, and with it the lock, does not write until it
// has the lock again, and never again when another vault had it.
func TestFencedAfterLostConnection(t *testing.T) {
	url := newDatabase(t)
	first := open(t, url)
	ctx := t.Context()
	must(t, first.Sites.Insert(ctx, &vault.Site{Name: "home"}))
	cut := func() {
		server.Exec(t, `SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE l.locktype = 'advisory' AND d.datname = '`+url[len("postgres:///"):strings.Index(url, "?")]+`'`)
	}
	err := first.Tx(ctx, func(ctx context.Context) error {
		must(t, first.Sites.Insert(ctx, &vault.Site{Name: "lost"}))
		cut()
		return nil
	})
	refused(t, err, homeward.Unavailable, first.where)
	must(t, first.Sites.Insert(ctx, &vault.Site{Name: "away"})) // it has the lock again
	cut()
	second, err := Open(ctx, config(url))
	must(t, err)
	refused(t, first.Sites.Insert(ctx, &vault.Site{Name: "x"}), homeward.InUse, "another vault")
	must(t, second.Close())
	refused(t, first.Sites.Insert(ctx, &vault.Site{Name: "x"}), homeward.Fenced, "another vault")
	page := got(first.Sites.List(ctx, vault.Query{}))(t)
	if !slices.EqualFunc(page.Entries, []string{"away", "home"}, func(v vault.Site, name string) bool { return v.Name == name }) {
		t.Fatalf("%+v", page)
	}
	open(t, url) // a new one may
}

// Each code that an operator can do something about has its kind.
func TestCodes(t *testing.T) {
	for code, kind := range map[int]homeward.Kind{
		5: homeward.Busy, 517: homeward.Busy, 6: homeward.Busy, 13: homeward.NoSpace, 14: homeward.Unavailable,
		8: homeward.Forbidden, 1032: homeward.Forbidden, 10: homeward.IO, 1034: homeward.IO, 11: homeward.Corrupt, 26: homeward.Corrupt, 9: homeward.Timeout, 1: homeward.Internal,
	} {
		if k, remedy := classifySQLite(code); k != kind || k != homeward.Internal && remedy == "" {
			t.Errorf("SQLite %d (%s): %s, %q", code, sqlite.ErrorCodeString[code], k, remedy)
		}
	}
	for code, kind := range map[string]homeward.Kind{
		"08006": homeward.Unavailable, "57P01": homeward.Unavailable, "57P03": homeward.Unavailable, "25006": homeward.Unavailable,
		"53100": homeward.NoSpace, "53300": homeward.Busy, "55P03": homeward.Busy, "40P01": homeward.Busy, "57014": homeward.Timeout,
		"28P01": homeward.Unauthentic, "42501": homeward.Forbidden, "58030": homeward.IO, "XX001": homeward.Corrupt, "42P01": homeward.Internal, "": homeward.Internal,
	} {
		if k, remedy := classifyPostgreSQL(code); k != kind || k != homeward.Internal && remedy == "" {
			t.Errorf("PostgreSQL %s: %s, %q", code, k, remedy)
		}
	}
}
