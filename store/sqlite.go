package store

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver

	"github.com/homeward-dr/homeward/durable"
)

// readers is how many reads run at once.
const readers = 4

// openSQLite opens the file at path. The lock file beside it keeps other vaults
// out; that SQLite itself locks is no help, for it lets two programs take turns.
func (s *Store) openSQLite(ctx context.Context, cfg Config, path string) error {
	const op = "open store"
	path, err := realPath(path)
	s.kind, s.where = SQLite, path
	if err != nil {
		return durable.SystemError(op, path, err)
	}
	if s.lock, err = durable.LockFile(durable.OS(), path+".lock"); err != nil {
		return durable.SystemError(op, path, err)
	}
	// Made here, so that nobody else may read it: SQLite would go by the umask, and
	// gives its other files the rights of this one.
	f, err := durable.OS().OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return durable.SystemError(op, path, err)
	}
	if err := f.Close(); err != nil {
		return durable.SystemError(op, path, err)
	}
	common := []string{
		fmt.Sprintf("busy_timeout(%d)", cfg.Patience.Milliseconds()),
		"journal_mode(WAL)", "synchronous(FULL)", "mmap_size(0)",
	}
	s.writer, err = sql.Open("sqlite", sqliteName(path, url.Values{"_pragma": common, "_txlock": {"immediate"}}))
	if err != nil {
		return s.failed(op, err)
	}
	oneConnection(s.writer)
	if err := s.writer.PingContext(ctx); err != nil {
		return s.failed(op, err)
	}
	s.reader, err = sql.Open("sqlite", sqliteName(path, url.Values{"_pragma": append(common, "query_only(1)")}))
	if err != nil {
		return s.failed(op, err)
	}
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	return nil
}

// realPath follows links, so that one file has one lock.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs)) // the file is not there yet
	if err != nil {
		return abs, err
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

func sqliteName(path string, options url.Values) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + options.Encode()
}

// oneConnection makes db queue for a single connection that is never given up.
func oneConnection(db *sql.DB) {
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	db.SetConnMaxLifetime(0)
	db.SetConnMaxIdleTime(0)
}
