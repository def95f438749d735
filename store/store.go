package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/vault"
)

// The kinds of store.
const (
	SQLite     = "sqlite"
	PostgreSQL = "postgresql"
)

// longest is how long a read or a transaction may take, waiting included: a store
// that does not answer must not hold up the vault for ever.
const longest = 30 * time.Second

// Config says where the store is.
type Config struct {
	// URL is "sqlite:/path/vault.db", in a directory that exists, on a local file
	// system; or "postgres://user@host/database", straight to the server: a pooler in
	// between would break the lock.
	URL string
	Log *slog.Logger     // nil: slog.Default()
	Now func() time.Time // nil: time.Now
	// Patience is how long to wait for a store that somebody else has locked;
	// 0: 5 seconds.
	Patience time.Duration
}

// Store is an open store; safe for concurrent use. There is one per database: a
// second one is refused (InUse).
type Store struct {
	Sites      *Table[vault.Site]
	Machines   *Table[vault.Machine]
	Nodes      *Table[vault.Node]
	Enrolments *Table[Enrolment]
	Tokens     *Table[Token]
	Policies   *Table[vault.Policy]
	Items      *Table[vault.Item]
	Jobs       *Table[vault.Job]
	Artefacts  *Table[vault.Artefact]
	Alerts     *Table[vault.Alert]

	kind   string
	where  string  // for messages: no secrets
	writer *sql.DB // of one connection: changes come one after the other
	reader *sql.DB
	lock   *durable.Lock // SQLite
	now    func() time.Time
	news   news
	closed sync.Once
}

// Open opens the store, makes it when it is empty, and brings it to the schema of
// this program. Unsupported: it has a newer one.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx, newest); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// connect opens the database and takes the right to be alone with it; its schema
// is left as it is.
func connect(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Patience == 0 {
		cfg.Patience = 5 * time.Second
	}
	s := &Store{now: cfg.Now}
	s.news.next = make(chan struct{})
	s.defineTables()
	var err error
	path, isFile := strings.CutPrefix(cfg.URL, "sqlite:")
	switch {
	case isFile && path != "":
		err = s.openSQLite(ctx, cfg, path)
	case strings.HasPrefix(cfg.URL, "postgres://"), strings.HasPrefix(cfg.URL, "postgresql://"):
		err = s.openPostgreSQL(ctx, cfg)
	default:
		scheme, _, _ := strings.Cut(cfg.URL, ":") // the rest may hold a password
		return nil, homeward.Errorf("open store", homeward.Invalid, "url",
			"give sqlite:/path/vault.db or postgres://user@host/database", "not the URL of a store: %q", scheme+":…")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Kind is SQLite or PostgreSQL.
func (s *Store) Kind() string { return s.kind }

// Close ends the use of the store: it waits for what runs, and what comes later
// fails. A second Close does nothing.
func (s *Store) Close() error {
	var errs []error
	s.closed.Do(func() {
		last := s.lastTransaction()
		for _, db := range []*sql.DB{s.reader, s.writer} {
			if db != nil {
				errs = append(errs, db.Close())
			}
		}
		if last != nil {
			errs = append(errs, last.Close())
		}
		if s.lock != nil { // nobody writes any more
			errs = append(errs, s.lock.Unlock())
		}
	})
	return s.failed("close store", errors.Join(errs...))
}

// lastTransaction waits for the end of the transactions that run or queue, and
// keeps others from beginning: it holds the connection that writes. PostgreSQL needs
// none of it, for there that connection is the lock.
func (s *Store) lastTransaction() *sql.Conn {
	if s.lock == nil || s.writer == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	conn, err := s.writer.Conn(ctx)
	if err != nil { // there is no connection to wait for
		return nil
	}
	return conn
}
