package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Audit adds an entry to the audit log; its ID is given here, and its time if it
// has none.
func (s *Store) Audit(ctx context.Context, e vault.AuditEntry) error {
	const op = "write audit log"
	if e.At.IsZero() {
		e.At = s.now().UTC()
	}
	e.ID = 0 // that is in its column
	doc, err := json.Marshal(&e)
	if err != nil {
		return homeward.Errorf(op, homeward.Internal, s.where, "", "%w", err)
	}
	return s.change(ctx, op, func(ctx context.Context, tx *transaction) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO audit (id, doc) SELECT COALESCE(MAX(id), 0) + 1, CAST($1 AS TEXT) FROM audit", string(doc))
		return err
	})
}

// AuditLog is a page of the audit log, newest first. It has no filters.
func (s *Store) AuditLog(ctx context.Context, q vault.Query) (vault.Page[vault.AuditEntry], error) {
	page := vault.Page[vault.AuditEntry]{Entries: []vault.AuditEntry{}}
	if err := q.Validate(); err != nil {
		return page, err
	}
	for _, f := range filters(&q) {
		return page, f.refused("the audit log")
	}
	text, args := "SELECT id, doc FROM audit ORDER BY id DESC LIMIT $1", []any{q.Limit + 1}
	if q.After != "" {
		raw, ok := unseal(q.After)
		before, err := strconv.ParseInt(raw, 10, 64)
		if !ok || err != nil {
			return page, badPlace(q.After)
		}
		text, args = "SELECT id, doc FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2", []any{before, q.Limit + 1}
	}
	err := s.look(ctx, "read audit log", func(ctx context.Context, db querier) error {
		return each(ctx, db, text, args, func(rows *sql.Rows) error {
			var e vault.AuditEntry
			var id int64
			err := scanDocument(rows, &id, &e)
			e.ID = id
			page.Entries = append(page.Entries, e)
			return err
		})
	})
	if err != nil {
		return vault.Page[vault.AuditEntry]{}, err
	}
	if len(page.Entries) > q.Limit {
		page.Entries = page.Entries[:q.Limit]
		page.Next = seal(strconv.FormatInt(page.Entries[q.Limit-1].ID, 10))
	}
	return page, nil
}

// scanDocument reads a number and a document.
func scanDocument(rows *sql.Rows, n *int64, into any) error {
	var doc string
	if err := rows.Scan(n, &doc); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(doc), into); err != nil {
		return homeward.Errorf("read", homeward.Corrupt, "document "+strconv.FormatInt(*n, 10), remedyBad, "%w", err)
	}
	return nil
}
