package homeward

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Generation fences an item: it is only ever raised, at failover, failback,
// cancel and rollback. A holder of an older generation is refused everywhere,
// and so is one with the same number and another id (I-6).
type Generation struct {
	Number uint64 `json:"number"`
	ID     ID     `json:"id"`
}

// Next returns the generation that follows g, with a fresh id.
func (g Generation) Next() Generation { return Generation{Number: g.Number + 1, ID: NewID()} }

// Fences reports whether a holder of o must be refused by a holder of g.
func (g Generation) Fences(o Generation) bool {
	return o.Number < g.Number || o.Number == g.Number && o.ID != g.ID
}

func (g Generation) IsZero() bool { return g == Generation{} }

// String is fixed-width and sorts by number.
func (g Generation) String() string { return fmt.Sprintf("%016x-%s", g.Number, g.ID) }

// Position is where a copy stands: it names a state of all disks of an item and
// proves it, because Checksum chains the content of every delta that led there.
// The zero Position means "nothing yet".
type Position struct {
	Generation Generation `json:"generation"`
	Sequence   uint64     `json:"sequence"`
	Cut        ID         `json:"cut"`      // random id of the cut attempt that made the state
	Checksum   Checksum   `json:"checksum"` // see package delta for what is chained
}

// Checksum is a 256-bit digest; its text form is 64 hex digits.
type Checksum [32]byte

func (c Checksum) String() string               { return hex.EncodeToString(c[:]) }
func (c Checksum) IsZero() bool                 { return c == Checksum{} }
func (c Checksum) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
func (c *Checksum) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(c) {
		return Errorf("parse checksum", Invalid, string(b), "give 64 hex digits", "not a checksum")
	}
	copy(c[:], raw)
	return nil
}

func (p Position) IsZero() bool { return p == Position{} }

// String is the fixed-width text form: generation number, generation id,
// sequence, cut, checksum. It sorts by generation number, and by sequence within
// one generation; it holds only [0-9a-f.-], so it may be a file name.
func (p Position) String() string {
	return fmt.Sprintf("%s.%016x.%s.%s", p.Generation, p.Sequence, p.Cut, p.Checksum)
}

// ParsePosition reads exactly what String writes.
func ParsePosition(s string) (Position, error) {
	bad := func() (Position, error) {
		return Position{}, Errorf("parse position", Invalid, s, "copy it whole from a listing of points", "not a position")
	}
	f := strings.Split(s, ".")
	if len(f) != 4 || len(f[0]) != 49 || f[0][16] != '-' || len(f[1]) != 16 {
		return bad()
	}
	var p Position
	var err [5]error
	p.Generation.Number, err[0] = strconv.ParseUint(f[0][:16], 16, 64)
	p.Generation.ID, err[1] = ParseID(f[0][17:])
	p.Sequence, err[2] = strconv.ParseUint(f[1], 16, 64)
	p.Cut, err[3] = ParseID(f[2])
	err[4] = p.Checksum.UnmarshalText([]byte(f[3]))
	for _, e := range err {
		if e != nil {
			return bad()
		}
	}
	if p.String() != s {
		return bad()
	}
	return p, nil
}

func (p Position) MarshalText() ([]byte, error) {
	if p.IsZero() {
		return nil, nil
	}
	return []byte(p.String()), nil
}

func (p *Position) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = Position{}
		return nil
	}
	parsed, err := ParsePosition(string(b))
	*p = parsed
	return err
}

// Base is the position at which a new generation of an item begins when its
// disks are in the state p: sequence 0, and a cut id and checksum derived from
// p and g, so that both ends of a new leg compute the same one without talking.
func (p Position) Base(g Generation) Position {
	sum := sha256.Sum256([]byte("homeward base " + p.String() + " " + g.String()))
	b := Position{Generation: g, Checksum: Checksum(sum)}
	copy(b.Cut[:], sum[16:])
	return b
}
