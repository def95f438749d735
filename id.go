package homeward

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// ID is a random 128-bit identifier. Its text form is 32 lower-case hex digits.
// The zero ID means "none".
type ID [16]byte

// NewID returns a fresh random ID.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails: it crashes the program instead
	return id
}

// ParseID reads the text form; dashes (as in a UUID) are allowed and dropped.
func ParseID(s string) (ID, error) {
	var id ID
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(id) {
		return ID{}, Errorf("parse id", Invalid, s, "give 32 hex digits", "not an identifier")
	}
	copy(id[:], raw)
	return id, nil
}

func (id ID) String() string               { return hex.EncodeToString(id[:]) }
func (id ID) IsZero() bool                 { return id == ID{} }
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := ParseID(string(b))
	*id = parsed
	return err
}

// ItemID names a replicated item: one protected machine. An item keeps its id
// for life; its legs swap.
type ItemID string

// DiskID is the stable UUID of one disk of a machine, the same on both sides.
type DiskID string

// Validate refuses names that could not be a path element, a URL segment and an
// NBD export name alike: 1 to 64 characters of a-z, A-Z, 0-9, '-' and '_'.
func (id ItemID) Validate() error { return validName("item", string(id)) }

// Validate holds the same rule as ItemID.Validate.
func (id DiskID) Validate() error { return validName("disk", string(id)) }

func validName(field, s string) error {
	ok := len(s) >= 1 && len(s) <= 64
	for _, c := range s {
		ok = ok && (c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	if !ok {
		return Errorf("validate", Invalid, fmt.Sprintf("%s %q", field, s),
			"use 1 to 64 letters, digits, '-' or '_'", "not a valid %s id", field)
	}
	return nil
}
