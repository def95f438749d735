package store

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

const (
	keptEvents = 100_000
	pruneEvery = 1000 // events
)

// news wakes watchers in this process.
type news struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next event
}

func (n *news) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.next)
	n.next = make(chan struct{})
}

// Changed is closed when there are new events. Take it before asking for Events,
// and wait for it when there are none: then none is missed.
func (s *Store) Changed() <-chan struct{} {
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	return s.news.next
}

// Events are up to limit events after the one of that id, oldest first. NotFound
// when some of those are no longer kept, or that id never was: list anew.
func (s *Store) Events(ctx context.Context, after int64, limit int) ([]vault.Event, error) {
	if limit < 1 || limit > vault.MaxPage {
		return nil, homeward.Errorf("read events", homeward.Invalid, "limit", "ask for 1 to 1000", "%d events", limit)
	}
	var events []vault.Event
	err := s.look(ctx, "read events", func(ctx context.Context, db querier) error {
		// The oldest is asked for last: what is pruned meanwhile is noticed.
		err := each(ctx, db, "SELECT id, happened, kind, subject, what FROM events WHERE id > $1 ORDER BY id LIMIT $2", []any{after, limit}, func(rows *sql.Rows) error {
			var e vault.Event
			var at int64
			err := rows.Scan(&e.ID, &at, &e.Kind, &e.Subject, &e.What)
			e.At = time.UnixMicro(at).UTC()
			events = append(events, e)
			return err
		})
		if err != nil {
			return err
		}
		var oldest, newest int64
		if err := db.QueryRowContext(ctx, "SELECT COALESCE(MIN(id), 1), COALESCE(MAX(id), 0) FROM events").Scan(&oldest, &newest); err != nil {
			return err
		}
		if after < oldest-1 || after > newest {
			return homeward.Errorf("read events", homeward.NotFound, "events", "list what you watch anew, then watch from there",
				"events %d to %d are kept, and those after %d were asked for", oldest, newest, after)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return events, nil
}

// LastEvent is the id of the newest event; 0 when there never was one.
func (s *Store) LastEvent(ctx context.Context) (int64, error) {
	var id int64
	err := s.look(ctx, "read events", func(ctx context.Context, db querier) error {
		return db.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM events").Scan(&id)
	})
	return id, err
}

// tell writes an event. Its id is the next one without a gap, for transactions run
// one after the other.
func (t *transaction) tell(ctx context.Context, now int64, kind, subject, what string) error {
	if kind == "" {
		return nil
	}
	var id int64
	err := t.QueryRowContext(ctx, `INSERT INTO events (id, happened, kind, subject, what)
		SELECT COALESCE(MAX(id), 0) + 1, CAST($1 AS BIGINT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT) FROM events RETURNING id`,
		now, kind, subject, what).Scan(&id)
	if err != nil {
		return err
	}
	t.told = true
	if id%pruneEvery == 0 {
		_, err = t.ExecContext(ctx, "DELETE FROM events WHERE id <= $1", id-keptEvents)
	}
	return err
}
