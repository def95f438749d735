package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/homeward-dr/homeward"
)

// advisoryLock is the number of the lock that the vault of a database holds.
const advisoryLock int64 = 0x486f6d6577617264 // "Homeward"

// fence keeps other vaults out of a PostgreSQL database. The one connection that
// writes holds an advisory lock for as long as it lives, so nothing is ever written
// without the lock; a new connection takes the lock before it is used. When another
// vault had it in between, which the instance in the database tells, this one must
// not go on: what it remembers is old.
type fence struct {
	where    string
	log      *slog.Logger
	instance string
	entered  atomic.Bool // instance is in the database
}

func (s *Store) openPostgreSQL(ctx context.Context, cfg Config) error {
	const op = "open store"
	s.kind, s.where = PostgreSQL, "PostgreSQL"
	pc, err := pgx.ParseConfig(cfg.URL)
	if err != nil { // it leaves passwords out
		return homeward.Errorf(op, homeward.Invalid, "url", "give postgres://user@host/database", "%w", err)
	}
	s.where = fmt.Sprintf("PostgreSQL database %q at %s", pc.Database, pc.Host)
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = 10 * time.Second
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	pc.RuntimeParams["application_name"] = fmt.Sprintf("homeward vault, process %d on %.30s", os.Getpid(), host)
	pc.RuntimeParams["lock_timeout"] = strconv.FormatInt(cfg.Patience.Milliseconds(), 10)
	// The server gives up a client that is gone without a word, and with it the lock.
	pc.RuntimeParams["tcp_keepalives_idle"] = "10"
	pc.RuntimeParams["tcp_keepalives_interval"] = "5"
	pc.RuntimeParams["tcp_keepalives_count"] = "3"

	f := &fence{where: s.where, log: cfg.Log, instance: homeward.NewID().String()}
	s.writer = stdlib.OpenDB(*pc, stdlib.OptionAfterConnect(f.enter))
	oneConnection(s.writer)
	read := pc.Copy()
	read.RuntimeParams["default_transaction_read_only"] = "on" // nothing gets past the fence
	s.reader = stdlib.OpenDB(*read)
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)

	if err := s.writer.PingContext(ctx); err != nil {
		return s.failed(op, err)
	}
	for _, statement := range []string{
		`DO $$ BEGIN CREATE DOMAIN ctext AS text COLLATE "C"; EXCEPTION WHEN duplicate_object THEN NULL; END $$`,
		`CREATE TABLE IF NOT EXISTS instance (id TEXT NOT NULL)`,
		`DELETE FROM instance`,
		`INSERT INTO instance (id) VALUES ('` + f.instance + `')`,
	} {
		if _, err := s.writer.ExecContext(ctx, statement); err != nil {
			return s.failed(op, err)
		}
	}
	f.entered.Store(true)
	return nil
}

// enter makes a fresh connection the one that may write.
func (f *fence) enter(ctx context.Context, conn *pgx.Conn) error {
	err := f.take(ctx, conn)
	if err != nil { // the driver forgets a connection that was refused here
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return errors.Join(err, conn.Close(ctx))
	}
	return nil
}

func (f *fence) take(ctx context.Context, conn *pgx.Conn) error {
	const op = "lock store"
	_, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", advisoryLock)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == lockNotAvailable {
		return homeward.Errorf(op, homeward.InUse, f.where, "stop that vault, or give this one a database of its own",
			"another vault has it: %s", holder(ctx, conn))
	}
	if err != nil || !f.entered.Load() {
		return err
	}
	var instance string
	if err := conn.QueryRow(ctx, "SELECT id FROM instance").Scan(&instance); err != nil {
		return err
	}
	if instance != f.instance {
		return homeward.Errorf(op, homeward.Fenced, f.where, "make sure that only one vault is meant to use it, then start this one again",
			"another vault had it while the connection was lost")
	}
	f.log.Info("the connection to the store was lost and is back", "store", f.where)
	return nil
}

// holder names who has the lock, as far as it can be found out.
func holder(ctx context.Context, conn *pgx.Conn) string {
	var name string
	err := conn.QueryRow(ctx, `SELECT a.application_name || ', from ' || COALESCE(host(a.client_addr), 'this host') || ', server process ' || a.pid
		FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::bigint << 32 | l.objid::bigint) = $1
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`, advisoryLock).Scan(&name)
	if err != nil {
		return "it cannot be told which"
	}
	return name
}
