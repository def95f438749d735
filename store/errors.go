package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/homeward-dr/homeward"
)

const (
	lockNotAvailable = "55P03"

	remedyGone   = "see that the database server runs and can be reached; the vault goes on by itself when it is back"
	remedyBusy   = "end the other program that works on the database, or wait"
	remedyFull   = "free some space where the database lies; the vault goes on by itself"
	remedyDenied = "give the vault's user all rights to the database"
	remedyBad    = "stop the vault and restore a backup: 'homeward vault restore'"
)

// failed makes an error of the root package of one that the database gave; one that
// is of the root package stays as it is. Only this file knows the codes of databases.
func (s *Store) failed(op string, err error) error {
	var known *homeward.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	kind, remedy := classify(err)
	return &homeward.Error{Op: op, Kind: kind, Subject: s.where, Remedy: remedy, Err: err}
}

func classify(err error) (homeward.Kind, string) {
	var (
		lite    *sqlite.Error
		pg      *pgconn.PgError
		connect *pgconn.ConnectError
		network net.Error
	)
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(context.Canceled):
		return homeward.Canceled, ""
	case errors.As(err, &lite):
		return classifySQLite(lite.Code())
	case errors.As(err, &pg):
		return classifyPostgreSQL(pg.Code)
	case errors.As(err, &connect):
		return homeward.Unavailable, remedyGone
	case is(context.DeadlineExceeded):
		return homeward.Timeout, "see whether the database is overloaded or locked, then retry"
	case errors.As(err, &network), is(driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed):
		return homeward.Unavailable, remedyGone
	}
	return homeward.Internal, ""
}

// classifySQLite goes by the primary code, the low byte.
func classifySQLite(code int) (homeward.Kind, string) {
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return homeward.Busy, remedyBusy
	case sqlite3.SQLITE_FULL:
		return homeward.NoSpace, remedyFull
	case sqlite3.SQLITE_CANTOPEN:
		return homeward.Unavailable, "see that the directory of the database is there and mounted"
	case sqlite3.SQLITE_IOERR:
		return homeward.IO, "look at the kernel log and replace the medium if it fails again"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return homeward.Corrupt, remedyBad
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return homeward.Forbidden, "make the database and its directory writable for the vault's user"
	case sqlite3.SQLITE_INTERRUPT:
		return homeward.Timeout, "see whether the machine is overloaded, then retry"
	case sqlite3.SQLITE_NOMEM:
		return homeward.Busy, "give the vault more memory"
	}
	return homeward.Internal, ""
}

// classifyPostgreSQL goes by the SQLSTATE, or its class, the first two characters.
func classifyPostgreSQL(code string) (homeward.Kind, string) {
	switch code {
	case lockNotAvailable, "40001", "40P01": // lock, serialization, deadlock
		return homeward.Busy, remedyBusy
	case "53100": // disk full
		return homeward.NoSpace, remedyFull
	case "57014": // query canceled, by its own timeout
		return homeward.Timeout, "see whether the database is overloaded, then retry"
	case "57P01", "57P02", "57P03", "57P05", "25006": // shutting down, crashed, starting, idle; a standby
		return homeward.Unavailable, remedyGone
	case "3D000":
		return homeward.NotFound, "create the database: createdb"
	case "42501":
		return homeward.Forbidden, remedyDenied
	}
	if len(code) < 2 {
		return homeward.Internal, ""
	}
	switch code[:2] {
	case "08":
		return homeward.Unavailable, remedyGone
	case "53": // too many connections, out of memory
		return homeward.Busy, "give the database server more connections or memory, or wait"
	case "28":
		return homeward.Unauthentic, "correct the user and password in the URL of the store, or pg_hba.conf of the server"
	case "58":
		return homeward.IO, "look at the log of the database server"
	case "XX":
		return homeward.Corrupt, remedyBad
	}
	return homeward.Internal, ""
}
