package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/homeward-dr/homeward"
)

// querier is a transaction, or the pool of readers.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// transaction is one that runs; calls find it in their context.
type transaction struct {
	*sql.Tx
	savepoints int
	told       bool // events were written: watchers wake when it is committed
	// broken is the first failure of the database itself. PostgreSQL does nothing more
	// in such a transaction; SQLite may have undone it already and would keep each
	// statement that follows: so nothing follows.
	broken error
}

// inside is the key of a store's transaction in a context; each store has its own.
type inside struct{ store *Store }

func (s *Store) current(ctx context.Context) *transaction {
	t, _ := ctx.Value(inside{s}).(*transaction)
	return t
}

// Tx runs do in one transaction: what is called with the inner context takes part
// in it, and is kept if do returns nil, and else undone altogether. Inside another
// one it is a part of it that can fail on its own.
//
// Transactions run one after the other, so do must be quick, must wait for nobody,
// and must not use the outer context to change the store: that would wait for
// itself. It is called once. A transaction that lasts 30 s is given up (Timeout).
// Resources changed in a transaction that fails hold revisions that never were:
// read them again.
func (s *Store) Tx(ctx context.Context, do func(context.Context) error) error {
	if t := s.current(ctx); t != nil {
		return s.savepoint(ctx, t, do)
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	return s.begin(ctx, do)
}

// begin is a transaction of its own.
func (s *Store) begin(ctx context.Context, do func(context.Context) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return s.failed("begin transaction", err)
	}
	t := &transaction{Tx: tx}
	committed := false
	defer func() {
		if !committed { // do failed or panicked; the database undoes it by itself if this fails
			_ = tx.Rollback()
		}
	}()
	if err := do(context.WithValue(ctx, inside{s}, t)); err != nil {
		return err
	}
	if t.broken != nil { // do went on all the same
		return t.broken
	}
	if err := tx.Commit(); err != nil {
		return s.failed("commit transaction", errors.Join(err, context.Cause(ctx)))
	}
	committed = true
	if t.told {
		s.news.wake()
	}
	return nil
}

// savepoint is a transaction in a transaction.
func (s *Store) savepoint(ctx context.Context, t *transaction, do func(context.Context) error) error {
	t.savepoints++
	name := fmt.Sprint("part", t.savepoints)
	if _, err := t.ExecContext(ctx, "SAVEPOINT "+name); err != nil {
		return s.failed("begin part of transaction", err)
	}
	failed := do(ctx)
	if failed != nil {
		if _, err := t.ExecContext(ctx, "ROLLBACK TO SAVEPOINT "+name); err != nil {
			return errors.Join(failed, s.failed("undo part of transaction", err))
		}
	}
	if _, err := t.ExecContext(ctx, "RELEASE SAVEPOINT "+name); err != nil {
		return errors.Join(failed, s.failed("end part of transaction", err))
	}
	return failed
}

// change runs do in the transaction of the context, or in one of its own. Unlike
// with Tx, do must fail before it changes anything, or because the database does.
func (s *Store) change(ctx context.Context, op string, do func(context.Context, *transaction) error) error {
	if t := s.current(ctx); t != nil {
		return s.within(t, op, func() error { return do(ctx, t) })
	}
	return s.Tx(ctx, func(ctx context.Context) error {
		t := s.current(ctx)
		return s.within(t, op, func() error { return do(ctx, t) })
	})
}

// look runs do on the transaction of the context, or on any reader.
func (s *Store) look(ctx context.Context, op string, do func(context.Context, querier) error) error {
	if t := s.current(ctx); t != nil {
		return s.within(t, op, func() error { return do(ctx, t) })
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	return s.failed(op, do(ctx, s.reader))
}

// within is a call in a transaction.
func (s *Store) within(t *transaction, op string, do func() error) error {
	if t.broken != nil {
		return t.broken
	}
	err := do()
	var refusal *homeward.Error
	if err != nil && !errors.As(err, &refusal) {
		err = s.failed(op, err)
		t.broken = err
	}
	return err
}
