package store

import (
	"bufio"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
)

const (
	backupMagic   = "HWVAULT"
	backupVersion = 1
	backupHead    = len(backupMagic) + 1
	backupSum     = 32
)

// backedUp are the tables of a backup, each ordered by its first column, and by its
// second where that is part of its key.
var backedUp = []string{
	"sites", "machines", "nodes", "enrolments", "tokens", "policies", "items", "jobs",
	"artefacts", "alerts", "proofs", "scores", "audit", "settings",
}

// backupHeader is the first line of a backup.
type backupHeader struct {
	Schema int64     `json:"schema"`
	Store  string    `json:"store"`
	Made   time.Time `json:"made"`
}

// backupTable begins a table.
type backupTable struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

// backupEnd is the last line.
type backupEnd struct {
	Rows int64 `json:"rows"`
}

// Backup writes the whole store as it is at one instant, in the format of the
// package comment, while the vault goes on. It may be restored into either kind of
// store. The database keeps that instant until all is written: write to a file, or
// give a context with a deadline.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	const op = "back up store"
	options := &sql.TxOptions{ReadOnly: true}
	if s.kind == PostgreSQL { // in SQLite every transaction sees one instant
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := s.reader.BeginTx(ctx, options)
	if err != nil {
		return s.failed(op, err)
	}
	defer func() { _ = tx.Rollback() }() // it has changed nothing

	hash := blake3.New()
	out := &destination{w: io.MultiWriter(w, hash)}
	if err := s.dump(ctx, tx, out); err != nil {
		if out.err != nil { // not the database failed
			err = homeward.Errorf(op, homeward.KindOf(out.err), s.where, homeward.RemedyOf(out.err), "%w", out.err)
		}
		return s.failed(op, err)
	}
	if _, err := w.Write(hash.Sum(nil)); err != nil {
		return homeward.Wrap(err, op, s.where)
	}
	return nil
}

// destination remembers that writing failed.
type destination struct {
	w   io.Writer
	err error
}

func (d *destination) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		d.err = err
	}
	return n, err
}

// dump writes everything but the sum.
func (s *Store) dump(ctx context.Context, tx *sql.Tx, w io.Writer) error {
	header := backupHeader{Store: s.kind, Made: s.now().UTC()}
	if err := tx.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version").Scan(&header.Schema); err != nil {
		return err
	}
	if _, err := w.Write(append([]byte(backupMagic), backupVersion)); err != nil {
		return err
	}
	compressed := gzip.NewWriter(w)
	buffered := bufio.NewWriterSize(compressed, 64<<10)
	lines := json.NewEncoder(buffered) // ends each value with a newline
	lines.SetEscapeHTML(false)
	err := lines.Encode(header)
	var end backupEnd
	for _, table := range backedUp {
		if err == nil {
			err = dumpTable(ctx, tx, table, lines, &end)
		}
	}
	if err == nil {
		err = lines.Encode(end)
	}
	return errors.Join(err, buffered.Flush(), compressed.Close())
}

func dumpTable(ctx context.Context, tx *sql.Tx, table string, lines *json.Encoder, end *backupEnd) error {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT * FROM %s ORDER BY 1, 2", table))
	if err != nil {
		return err
	}
	columns, err := rows.Columns()
	if err == nil {
		err = lines.Encode(backupTable{Table: table, Columns: columns})
	}
	values := make([]any, len(columns)) // all are text or whole numbers
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for err == nil && rows.Next() {
		if err = rows.Scan(into...); err == nil {
			end.Rows++
			err = lines.Encode(values)
		}
	}
	return errors.Join(err, rows.Err(), rows.Close())
}
