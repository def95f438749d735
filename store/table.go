package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// MaxKey is the most bytes of a key.
const MaxKey = 512

// Table holds the resources of one type. Safe for concurrent use.
type Table[T any] struct {
	store *Store
	definition[T]
	insert, update, pick string
}

// definition says how a resource is a row.
type definition[T any] struct {
	name    string               // of the SQL table
	noun    string               // for messages: "item"
	lister  string               // for messages: the command that lists it, "token list"; empty: noun and "list"
	kind    string               // of its events; empty: it has none
	key     func(*T) string      //
	meta    func(*T) *vault.Meta // nil: it carries none, and the last change wins
	columns []column[T]          // of lists' filters
	newest  bool                 // lists begin with the newest, instead of the lowest key
	hide    func(*T)             // takes out of a copy what is not to be stored; nil: nothing
	apart   func(*T) any         // pointer to what is kept as JSON in the column record; nil: nothing
}

// column is a part of the resource that rows can be found by.
type column[T any] struct {
	name string
	of   func(*T) string
}

func define[T any](s *Store, d definition[T]) *Table[T] {
	t := &Table[T]{store: s, definition: d}
	rest := []string{}
	for _, c := range d.columns {
		rest = append(rest, c.name)
	}
	rest = append(rest, "doc")
	kept := "doc"
	if d.apart != nil {
		rest, kept = append(rest, "record"), "doc, record"
	}
	values, sets := "$1, 1, $2, $2", "revision = revision + 1, changed = $2"
	for i, name := range rest {
		values += fmt.Sprintf(", $%d", i+3)
		sets += fmt.Sprintf(", %s = $%d", name, i+3)
	}
	t.insert = fmt.Sprintf("INSERT INTO %s (key, revision, created, changed, %s) VALUES (%s) ON CONFLICT (key) DO NOTHING", d.name, strings.Join(rest, ", "), values)
	t.update = fmt.Sprintf("UPDATE %s SET %s WHERE key = $1", d.name, sets)
	if d.meta != nil {
		t.update += fmt.Sprintf(" AND revision = $%d", len(rest)+3)
	}
	t.update += " RETURNING revision, created"
	t.pick = fmt.Sprintf("SELECT key, revision, created, changed, %s FROM %s", kept, d.name)
	return t
}

// Get is the resource of that key; NotFound.
func (t *Table[T]) Get(ctx context.Context, key string) (T, error) {
	var found row[T]
	err := t.store.look(ctx, "read "+t.noun, func(ctx context.Context, q querier) error {
		if !clean(key) {
			return t.missing("read", key)
		}
		err := t.scan(q.QueryRowContext(ctx, t.pick+" WHERE key = $1", key), &found)
		if errors.Is(err, sql.ErrNoRows) {
			return t.missing("read", key)
		}
		return err
	})
	return found.value, err
}

// Insert adds a resource and sets its Meta; Exists when its key is taken.
func (t *Table[T]) Insert(ctx context.Context, v *T) error {
	args, err := t.encode(v)
	if err != nil {
		return err
	}
	now := t.store.micros()
	err = t.store.change(ctx, "add "+t.noun, func(ctx context.Context, tx *transaction) error {
		if now, err = t.birth(ctx, tx, now); err != nil {
			return err
		}
		n, err := affected(tx.ExecContext(ctx, t.insert, slices.Insert(args, 1, any(now))...))
		if err == nil && n == 0 {
			err = homeward.Errorf("add", homeward.Exists, t.subject(t.key(v)), "choose another name, or change the one that is there", "it is there already")
		}
		if err != nil {
			return err
		}
		return tx.tell(ctx, now, t.kind, t.key(v), "created")
	})
	if err == nil && t.meta != nil {
		*t.meta(v) = metaOf(1, now, now)
	}
	return err
}

// birth is when a resource counts as created. Of lists that begin with the newest it is
// later than that of every one before, also after the clock was set back: what is newer
// is told by it alone.
func (t *Table[T]) birth(ctx context.Context, tx *transaction, now int64) (int64, error) {
	if !t.newest {
		return now, nil
	}
	var last int64
	err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(created), 0) FROM "+t.name).Scan(&last)
	return max(now, last+1), err
}

// Update replaces a resource and brings its Meta up to date. Conflict when its
// Meta.Revision is not the stored one: somebody else changed it; NotFound.
func (t *Table[T]) Update(ctx context.Context, v *T) error {
	args, err := t.encode(v)
	if err != nil {
		return err
	}
	now := t.store.micros()
	args = slices.Insert(args, 1, any(now))
	if t.meta != nil {
		args = append(args, t.meta(v).Revision)
	}
	var revision, created int64
	err = t.store.change(ctx, "change "+t.noun, func(ctx context.Context, tx *transaction) error {
		err := tx.QueryRowContext(ctx, t.update, args...).Scan(&revision, &created)
		if errors.Is(err, sql.ErrNoRows) {
			return t.notUpdated(ctx, v)
		}
		if err != nil {
			return err
		}
		return tx.tell(ctx, now, t.kind, t.key(v), "changed")
	})
	if err == nil && t.meta != nil {
		*t.meta(v) = metaOf(revision, created, now)
	}
	return err
}

// notUpdated says why no row was as expected.
func (t *Table[T]) notUpdated(ctx context.Context, v *T) error {
	stored, err := t.Get(ctx, t.key(v))
	if err != nil {
		return err
	}
	return homeward.Errorf("change", homeward.Conflict, t.subject(t.key(v)), "read it again, and repeat the change on what it is now",
		"it was changed meanwhile: revision %d is stored, not %d", t.meta(&stored).Revision, t.meta(v).Revision)
}

// Change reads a resource, lets do change it, and stores that, all in one
// transaction (see Tx for what do may do). An error of do is returned as it is, and
// nothing is changed. The key must stay.
func (t *Table[T]) Change(ctx context.Context, key string, do func(*T) error) (T, error) {
	var v T
	err := t.store.Tx(ctx, func(ctx context.Context) error {
		var err error
		if v, err = t.Get(ctx, key); err != nil {
			return err
		}
		if err := do(&v); err != nil {
			return err
		}
		if t.key(&v) != key {
			return homeward.Errorf("change", homeward.Internal, t.subject(key), "", "its key became %q", t.key(&v))
		}
		return t.Update(ctx, &v)
	})
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

// Delete removes a resource; NotFound.
func (t *Table[T]) Delete(ctx context.Context, key string) error {
	return t.store.change(ctx, "remove "+t.noun, func(ctx context.Context, tx *transaction) error {
		if !clean(key) {
			return t.missing("remove", key)
		}
		n, err := affected(tx.ExecContext(ctx, "DELETE FROM "+t.name+" WHERE key = $1", key))
		if err == nil && n == 0 {
			err = t.missing("remove", key)
		}
		if err != nil {
			return err
		}
		return tx.tell(ctx, t.store.micros(), t.kind, key, "removed")
	})
}

func (t *Table[T]) subject(key string) string { return fmt.Sprintf("%s %q", t.noun, key) }

func (t *Table[T]) missing(op, key string) error {
	return homeward.Errorf(op, homeward.NotFound, t.subject(key), "see 'homeward "+cmp.Or(t.lister, t.noun+" list")+"'", "there is none of that name")
}

// encode gives the arguments of insert and update: the key, the columns, the
// documents.
func (t *Table[T]) encode(v *T) ([]any, error) {
	key := t.key(v)
	if key == "" || len(key) > MaxKey || !clean(key) {
		return nil, homeward.Errorf("store", homeward.Invalid, t.subject(key), "give it 1 to 512 bytes of printable text", "not a key of a %s", t.noun)
	}
	args := []any{key}
	for _, c := range t.columns {
		value := c.of(v)
		if !clean(value) {
			return nil, homeward.Errorf("store", homeward.Invalid, t.subject(key), "give printable text", "%s is %q", c.name, value)
		}
		args = append(args, value)
	}
	bare := *v
	if t.meta != nil {
		*t.meta(&bare) = vault.Meta{} // that is in columns
	}
	if t.hide != nil {
		t.hide(&bare)
	}
	documents := []any{&bare}
	if t.apart != nil {
		documents = append(documents, t.apart(v))
	}
	for _, d := range documents {
		text, err := json.Marshal(d)
		if err != nil {
			return nil, homeward.Errorf("store", homeward.Internal, t.subject(key), "", "%w", err)
		}
		args = append(args, string(text))
	}
	return args, nil
}

// row is a resource, and what places it in lists.
type row[T any] struct {
	value   T
	key     string
	created int64
}

// scan reads one row of what pick selects. Fields that this program does not know
// are passed over.
func (t *Table[T]) scan(from interface{ Scan(...any) error }, r *row[T]) error {
	var revision, changed int64
	var doc, record string
	into := []any{&r.key, &revision, &r.created, &changed, &doc}
	if t.apart != nil {
		into = append(into, &record)
	}
	if err := from.Scan(into...); err != nil {
		return err
	}
	err := json.Unmarshal([]byte(doc), &r.value)
	if err == nil && t.apart != nil {
		err = json.Unmarshal([]byte(record), t.apart(&r.value))
	}
	if err != nil {
		return homeward.Errorf("read", homeward.Corrupt, t.subject(r.key), remedyBad, "its document: %w", err)
	}
	if t.meta != nil {
		*t.meta(&r.value) = metaOf(revision, r.created, changed)
	}
	return nil
}

func metaOf(revision, created, changed int64) vault.Meta {
	return vault.Meta{Revision: revision, Created: time.UnixMicro(created).UTC(), Changed: time.UnixMicro(changed).UTC()}
}

func (s *Store) micros() int64 { return s.now().UnixMicro() }

// clean reports whether both databases take s for text and for the same text.
func clean(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' })
}

func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
