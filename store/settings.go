package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/homeward-dr/homeward"
)

// Settings that the store itself writes, when a backup is restored.
const (
	SettingEpoch    = "epoch"     // decimal; Epoch reads it
	SettingReadOnly = "read-only" // why the vault is read-only; empty: it is not
	SettingRestored = "restored"  // when; Restored reads it
)

// Setting is the value of a setting; empty when it was never set.
func (s *Store) Setting(ctx context.Context, name string) (string, error) {
	var value string
	err := s.look(ctx, "read setting "+name, func(ctx context.Context, db querier) error {
		err := db.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = $1", name).Scan(&value)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return value, err
}

// SetSetting sets a setting to any text without NUL.
func (s *Store) SetSetting(ctx context.Context, name, value string) error {
	if name == "" || len(name) > MaxKey || !clean(name) {
		return homeward.Errorf("change setting", homeward.Invalid, "name", "give 1 to 512 bytes of printable text", "%q", name)
	}
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return homeward.Errorf("change setting", homeward.Invalid, "setting "+name, "give UTF-8 text", "%q", value)
	}
	return s.change(ctx, "change setting "+name, func(ctx context.Context, tx *transaction) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
		return err
	})
}

// Restored is when this store was filled from a backup; zero: it was not. What was made
// before that, and taken back since the backup, is there again.
func (s *Store) Restored(ctx context.Context) (time.Time, error) {
	value, err := s.Setting(ctx, SettingRestored)
	if err != nil || value == "" {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return at, homeward.Errorf("read time of restore", homeward.Corrupt, s.where, remedyBad, "%w", err)
	}
	return at, nil
}

// Epoch is the epoch of this store: 1, until a backup is restored.
func (s *Store) Epoch(ctx context.Context) (uint64, error) {
	value, err := s.Setting(ctx, SettingEpoch)
	if err != nil || value == "" {
		return 1, err
	}
	epoch, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, homeward.Errorf("read epoch", homeward.Corrupt, s.where, remedyBad, "%w", err)
	}
	return epoch, nil
}
