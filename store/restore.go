package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const remedyBackup = "use another copy of the backup"

// Restore fills an empty store from a backup: all of it or nothing. The backup is
// read to its end and checked before the store is touched (Corrupt); it takes the
// space of the backup once more while it runs. The store then has a higher epoch
// than any before, and is marked read-only (SettingReadOnly). Conflict when the
// store is not empty.
func Restore(ctx context.Context, cfg Config, r io.Reader) (err error) {
	file, size, err := spool(ctx, cfg, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	header, lines, err := openBackup(file, size)
	if err != nil {
		return err
	}
	s, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	// What an older program backed up goes through the same migrations as its store
	// would have.
	current, known, err := s.schema(ctx)
	if err != nil {
		return err
	}
	if current != 0 && current != header.Schema && header.Schema <= known {
		return homeward.Errorf("restore store", homeward.Conflict, s.where, "give a new, empty database",
			"its schema is version %d, that of the backup %d", current, header.Schema)
	}
	if err := s.migrate(ctx, header.Schema); err != nil {
		return err
	}
	if err := s.load(ctx, header, lines); err != nil {
		return err
	}
	return s.migrate(ctx, newest)
}

// spool copies a backup into a file that has no name and so cannot be left behind.
func spool(ctx context.Context, cfg Config, r io.Reader) (_ *os.File, _ int64, err error) {
	const op = "read backup"
	dir := "" // for PostgreSQL, the system's
	if path, isFile := strings.CutPrefix(cfg.URL, "sqlite:"); isFile {
		dir = filepath.Dir(path)
	}
	file, err := os.CreateTemp(dir, "homeward-restore-")
	if err != nil {
		return nil, 0, durable.SystemError(op, "temporary file", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, 0, durable.SystemError(op, file.Name(), err)
	}
	size, err := io.Copy(file, stoppable{ctx, r})
	if err != nil {
		return nil, 0, durable.SystemError(op, "temporary file", err)
	}
	return file, size, nil
}

// stoppable ends with its context.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, homeward.Wrap(err, "read", "backup")
	}
	return s.r.Read(p)
}

// openBackup checks a backup of size bytes and gives its lines after the header.
func openBackup(file io.ReaderAt, size int64) (backupHeader, *lineReader, error) {
	var header backupHeader
	bad := func(kind homeward.Kind, remedy, format string, args ...any) (backupHeader, *lineReader, error) {
		return header, nil, homeward.Errorf("read backup", kind, "", remedy, format, args...)
	}
	head := make([]byte, backupHead)
	if size < int64(backupHead+backupSum) {
		return bad(homeward.Corrupt, remedyBackup, "%d bytes are too few", size)
	}
	if _, err := file.ReadAt(head, 0); err != nil {
		return bad(homeward.IO, "", "%w", err)
	}
	if string(head[:len(backupMagic)]) != backupMagic {
		return bad(homeward.Corrupt, "give a file that 'homeward vault backup' wrote", "it is not a backup of a vault")
	}
	hash := blake3.New()
	want := make([]byte, backupSum)
	if _, err := io.Copy(hash, io.NewSectionReader(file, 0, size-int64(backupSum))); err != nil {
		return bad(homeward.IO, "", "%w", err)
	}
	if _, err := file.ReadAt(want, size-int64(backupSum)); err != nil && !errors.Is(err, io.EOF) {
		return bad(homeward.IO, "", "%w", err)
	}
	if head[len(backupMagic)] != backupVersion {
		return bad(homeward.Unsupported, "restore it with the homeward that wrote it", "its format is version %d, this program knows %d", head[len(backupMagic)], backupVersion)
	}
	if subtle.ConstantTimeCompare(hash.Sum(nil), want) != 1 {
		return bad(homeward.Corrupt, remedyBackup, "its checksum is wrong: it was cut short or changed")
	}
	body, err := gzip.NewReader(io.NewSectionReader(file, int64(backupHead), size-int64(backupHead+backupSum)))
	if err != nil {
		return bad(homeward.Corrupt, remedyBackup, "%w", err)
	}
	lines := newLineReader(body)
	if err := lines.Decode(&header); err != nil {
		return bad(homeward.Corrupt, remedyBackup, "its header: %w", err)
	}
	if header.Schema < 1 {
		return bad(homeward.Corrupt, remedyBackup, "its header: schema version %d", header.Schema)
	}
	return header, lines, nil
}

// maxLine is the most bytes of one line of a backup: a row is held in memory whole,
// and a few bytes of a compressed file can be gigabytes.
const maxLine = 64 << 20

// lineReader decodes the lines of a backup.
type lineReader struct {
	*json.Decoder
	from *io.LimitedReader
}

func newLineReader(r io.Reader) *lineReader {
	from := &io.LimitedReader{R: r}
	return &lineReader{json.NewDecoder(from), from}
}

// Decode reads one line. What has been read ahead of it counts as its own.
func (l *lineReader) Decode(v any) error {
	l.from.N = maxLine
	err := l.Decoder.Decode(v)
	if err != nil && l.from.N == 0 {
		return homeward.Errorf("read backup", homeward.Corrupt, "backup", remedyBackup, "a line is longer than %d bytes", maxLine)
	}
	return err
}

// load puts the rows of a backup into the empty tables, in one transaction.
func (s *Store) load(ctx context.Context, header backupHeader, lines *lineReader) error {
	const op = "restore store"
	return s.begin(ctx, func(ctx context.Context) error {
		l := loader{tx: s.current(ctx)}
		if err := l.mustBeEmpty(ctx, "events"); err != nil {
			return s.failed(op, err)
		}
		for !l.ended {
			var line json.RawMessage
			if err := lines.Decode(&line); err != nil {
				return homeward.Errorf(op, homeward.Corrupt, "backup", remedyBackup, "%w", err)
			}
			if err := l.line(ctx, line); err != nil {
				return errors.Join(s.failed(op, err), l.close())
			}
		}
		if err := l.close(); err != nil {
			return s.failed(op, err)
		}
		return s.failed(op, s.begun(ctx, header))
	})
}

// begun gives the restored store an epoch of its own, marks it read-only, and makes
// void what admits nodes once. The
// epoch is at least the time in seconds: whoever restores one backup twice gets two
// epochs. Events go on above any number that was told before, so that watchers see
// that they have missed something.
func (s *Store) begun(ctx context.Context, header backupHeader) error {
	old, err := s.Epoch(ctx)
	if err != nil {
		return err
	}
	now := s.now()
	epoch := max(old+1, uint64(max(now.Unix(), 0)))
	why := "restored from a backup of " + header.Made.Format(time.RFC3339)
	// One that was used after the backup would be good again.
	if _, err := s.current(ctx).ExecContext(ctx, "DELETE FROM enrolments"); err != nil {
		return err
	}
	if err := s.SetSetting(ctx, SettingEpoch, strconv.FormatUint(epoch, 10)); err != nil {
		return err
	}
	if err := s.SetSetting(ctx, SettingRestored, s.now().UTC().Format(time.RFC3339Nano)); err != nil {
		return err
	}
	if err := s.SetSetting(ctx, SettingReadOnly, why); err != nil {
		return err
	}
	_, err = s.current(ctx).ExecContext(ctx, "INSERT INTO events (id, happened, kind, subject, what) VALUES ($1, $1, 'vault', 'vault', 'restored')", now.UnixMicro())
	return err
}

// loader takes the lines of a backup one after the other.
type loader struct {
	tx     *transaction
	seen   []string
	insert *sql.Stmt
	width  int // columns
	rows   int64
	ended  bool
}

var identifier = regexp.MustCompile(`^[a-z_]+$`)

func (l *loader) line(ctx context.Context, line json.RawMessage) error {
	if line[0] == '[' {
		return l.row(ctx, line)
	}
	var begins struct {
		backupTable
		Rows *int64 `json:"rows"`
	}
	if err := json.Unmarshal(line, &begins); err != nil {
		return l.bad("a line: %w", err)
	}
	if begins.Rows == nil {
		return l.table(ctx, begins.backupTable)
	}
	if *begins.Rows != l.rows {
		return l.bad("%d rows, and the end says %d", l.rows, *begins.Rows)
	}
	l.ended = true
	return nil
}

func (l *loader) table(ctx context.Context, t backupTable) error {
	if !slices.Contains(backedUp, t.Table) || slices.Contains(l.seen, t.Table) || len(t.Columns) == 0 {
		return l.bad("table %q is not expected there", t.Table)
	}
	values := make([]string, len(t.Columns))
	for i, column := range t.Columns {
		if !identifier.MatchString(column) {
			return l.bad("column %q", column)
		}
		values[i] = fmt.Sprintf("$%d", i+1)
	}
	if err := l.mustBeEmpty(ctx, t.Table); err != nil {
		return err
	}
	if err := l.close(); err != nil {
		return err
	}
	var err error
	l.seen, l.width = append(l.seen, t.Table), len(t.Columns)
	l.insert, err = l.tx.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", t.Table, strings.Join(t.Columns, ", "), strings.Join(values, ", ")))
	return err
}

func (l *loader) row(ctx context.Context, line json.RawMessage) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber() // a float would round
	var values []any
	if err := decoder.Decode(&values); err != nil {
		return l.bad("row %d: %w", l.rows+1, err)
	}
	if l.insert == nil || len(values) != l.width {
		return l.bad("row %d has %d values, not %d", l.rows+1, len(values), l.width)
	}
	for i, v := range values {
		number, isNumber := v.(json.Number)
		_, isText := v.(string)
		if isNumber {
			n, err := number.Int64()
			if err != nil {
				return l.bad("row %d: %w", l.rows+1, err)
			}
			values[i] = n
		} else if !isText {
			return l.bad("row %d: %v", l.rows+1, v)
		}
	}
	l.rows++
	_, err := l.insert.ExecContext(ctx, values...)
	return err
}

func (l *loader) mustBeEmpty(ctx context.Context, table string) error {
	var rows int64
	if err := l.tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM "+table+" LIMIT 1) AS any_row").Scan(&rows); err != nil {
		return err
	}
	if rows > 0 {
		return homeward.Errorf("restore store", homeward.Conflict, table, "give a new, empty database", "the store is not empty")
	}
	return nil
}

func (l *loader) bad(format string, args ...any) error {
	return homeward.Errorf("restore store", homeward.Corrupt, "backup", remedyBackup, format, args...)
}

func (l *loader) close() error {
	if l.insert == nil {
		return nil
	}
	err := l.insert.Close()
	l.insert = nil
	return err
}
