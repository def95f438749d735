package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// keptScores is how many scores are kept of each item.
const keptScores = 500

// AddScore adds to the history of an item's failback score; the newest 500 are kept.
func (s *Store) AddScore(ctx context.Context, item homeward.ItemID, score vault.Score) error {
	const op = "add score"
	doc, err := json.Marshal(&score)
	if err == nil {
		err = item.Validate()
	}
	if err != nil {
		return homeward.Wrap(err, op, string(item))
	}
	return s.change(ctx, op, func(ctx context.Context, tx *transaction) error {
		var n int64
		err := tx.QueryRowContext(ctx, `INSERT INTO scores (item, n, doc)
			SELECT CAST($1 AS TEXT), COALESCE(MAX(n), 0) + 1, CAST($2 AS TEXT) FROM scores WHERE item = $1 RETURNING n`, string(item), string(doc)).Scan(&n)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM scores WHERE item = $1 AND n <= $2", string(item), n-keptScores)
		return err
	})
}

// Scores is the history of an item's failback score, newest first, at most 500.
func (s *Store) Scores(ctx context.Context, item homeward.ItemID) ([]vault.Score, error) {
	if err := item.Validate(); err != nil {
		return nil, err
	}
	var scores []vault.Score
	err := s.look(ctx, "read scores", func(ctx context.Context, db querier) error {
		return each(ctx, db, "SELECT n, doc FROM scores WHERE item = $1 ORDER BY n DESC", []any{string(item)}, func(rows *sql.Rows) error {
			var score vault.Score
			var n int64
			err := scanDocument(rows, &n, &score)
			scores = append(scores, score)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return scores, nil
}

// DropScores forgets an item's history.
func (s *Store) DropScores(ctx context.Context, item homeward.ItemID) error {
	return s.change(ctx, "drop scores", func(ctx context.Context, tx *transaction) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM scores WHERE item = $1", string(item))
		return err
	})
}

// AddProof keeps a signed proof; Exists when there is one of that id.
func (s *Store) AddProof(ctx context.Context, id string, proof []byte) error {
	if id == "" || len(id) > MaxKey || !clean(id) {
		return homeward.Errorf("add proof", homeward.Invalid, "id", "give 1 to 512 bytes of printable text", "%q", id)
	}
	return s.change(ctx, "add proof", func(ctx context.Context, tx *transaction) error {
		n, err := affected(tx.ExecContext(ctx, "INSERT INTO proofs (key, created, data) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING",
			id, s.micros(), base64.StdEncoding.EncodeToString(proof)))
		if err == nil && n == 0 {
			err = homeward.Errorf("add", homeward.Exists, "proof "+id, "give each proof an id of its own", "it is there already")
		}
		return err
	})
}

// Proof is the proof of that id, as it was added; NotFound.
func (s *Store) Proof(ctx context.Context, id string) ([]byte, error) {
	var text string
	err := s.look(ctx, "read proof", func(ctx context.Context, db querier) error {
		if !clean(id) {
			return noProof(id)
		}
		err := db.QueryRowContext(ctx, "SELECT data FROM proofs WHERE key = $1", id).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			return noProof(id)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	proof, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, homeward.Errorf("read", homeward.Corrupt, "proof "+id, remedyBad, "%w", err)
	}
	return proof, nil
}

func noProof(id string) error {
	return homeward.Errorf("read", homeward.NotFound, "proof "+id, "make one: 'homeward item prove'", "there is none of that id")
}
