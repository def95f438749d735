package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// List is a page of the resources that q selects, in the order that the package
// comment tells. Invalid names a filter that this table does not have.
func (t *Table[T]) List(ctx context.Context, q vault.Query) (vault.Page[T], error) {
	var page vault.Page[T]
	text, args, err := t.listing(&q)
	if err != nil {
		return page, err
	}
	var rows []row[T]
	err = t.store.look(ctx, "list "+t.name, func(ctx context.Context, db querier) error {
		return each(ctx, db, text, args, func(from *sql.Rows) error {
			var r row[T]
			err := t.scan(from, &r)
			rows = append(rows, r)
			return err
		})
	})
	if err != nil {
		return page, err
	}
	if len(rows) > q.Limit { // one more was asked for, to know that there is a next page
		rows = rows[:q.Limit]
		page.Next = t.placeOf(&rows[q.Limit-1])
	}
	page.Entries = make([]T, len(rows))
	for i := range rows {
		page.Entries[i] = rows[i].value
	}
	return page, nil
}

// All goes through all that q selects, page by page: q.Limit does not matter, and
// what is changed on the way may be seen before or after. The store may be used
// from inside the loop.
func (t *Table[T]) All(ctx context.Context, q vault.Query) iter.Seq2[T, error] {
	q.Limit = 200
	return func(yield func(T, error) bool) {
		for {
			page, err := t.List(ctx, q)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range page.Entries {
				if !yield(v, nil) {
					return
				}
			}
			if q.After = page.Next; q.After == "" {
				return
			}
		}
	}
}

// listing is the statement of a page and one entry more.
func (t *Table[T]) listing(q *vault.Query) (string, []any, error) {
	if err := q.Validate(); err != nil {
		return "", nil, err
	}
	var where []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	for _, f := range filters(q) {
		if !slices.ContainsFunc(t.columns, func(c column[T]) bool { return c.name == f.name }) {
			return "", nil, f.refused(t.name)
		}
		if !clean(f.value) {
			return "", nil, homeward.Errorf("list", homeward.Invalid, f.name, "give printable text", "%q", f.value)
		}
		where = append(where, f.name+" = "+arg(f.value))
	}
	if q.After != "" {
		created, key, err := t.parsePlace(q.After)
		switch {
		case err != nil:
			return "", nil, err
		case t.newest:
			where = append(where, fmt.Sprintf("(created, key) < (%s, %s)", arg(created), arg(key)))
		default:
			where = append(where, "key > "+arg(key))
		}
	}
	text := t.pick
	if len(where) > 0 {
		text += " WHERE " + strings.Join(where, " AND ")
	}
	order := " ORDER BY key"
	if t.newest {
		order = " ORDER BY created DESC, key DESC"
	}
	return text + order + " LIMIT " + arg(q.Limit+1), args, nil
}

// filter is one of a query: a column and the value it must have.
type filter struct{ name, value string }

func filters(q *vault.Query) []filter {
	all := []filter{{"site", q.Site}, {"item", q.Item}, {"state", q.State}, {"role", q.Role}}
	return slices.DeleteFunc(all, func(f filter) bool { return f.value == "" })
}

func (f filter) refused(list string) error {
	return homeward.Errorf("list", homeward.Invalid, f.name, "leave it out", "%s cannot be filtered by %s", list, f.name)
}

// placeOf is where a page ends, opaque to callers: the key of its last entry, and
// before it the time if that comes first in the order.
func (t *Table[T]) placeOf(r *row[T]) string {
	if t.newest {
		return seal(fmt.Sprintf("%d %s", r.created, r.key))
	}
	return seal(r.key)
}

func (t *Table[T]) parsePlace(after string) (created int64, key string, err error) {
	key, ok := unseal(after)
	if ok && t.newest {
		var number string
		number, key, ok = strings.Cut(key, " ")
		if created, err = strconv.ParseInt(number, 10, 64); err != nil {
			ok = false
		}
	}
	if !ok || !clean(key) {
		return 0, "", badPlace(after)
	}
	return created, key, nil
}

func seal(place string) string { return base64.RawURLEncoding.EncodeToString([]byte(place)) }

func unseal(after string) (string, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(after)
	return string(raw), err == nil
}

func badPlace(after string) error {
	return homeward.Errorf("list", homeward.Invalid, "after", "take it from the page before, or leave it out", "%.40q is not the end of a page", after)
}

// each calls do for each row of a query.
func each(ctx context.Context, db querier, text string, args []any, do func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	for err == nil && rows.Next() {
		err = do(rows)
	}
	return errors.Join(err, rows.Err(), rows.Close())
}
