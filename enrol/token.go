package enrol

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

const (
	tokenPrefix = "hw1"
	maxToken    = 256 // bytes of its text that are looked at
)

var base64url = base64.RawURLEncoding.Strict()

// Token admits one node once. Printed or logged it shows its id alone; Reveal is
// its secret text.
type Token struct {
	ID     string // 16 hex digits; not secret
	secret [32]byte
	CA     pki.Fingerprint // of the vault's authority
}

func newToken(ca pki.Fingerprint) Token {
	t := Token{CA: ca}
	var id [8]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails: it crashes the program instead
	_, _ = rand.Read(t.secret[:])
	t.ID = hex.EncodeToString(id[:])
	return t
}

// Reveal is the text that is given to the node.
func (t Token) Reveal() string {
	return strings.Join([]string{tokenPrefix, t.ID, base64url.EncodeToString(t.secret[:]), base64url.EncodeToString(t.CA[:])}, ".")
}

func (t Token) String() string       { return tokenPrefix + "." + t.ID + ".…" }
func (t Token) GoString() string     { return t.String() }
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// hash is what the vault keeps.
func (t Token) hash() string {
	sum := sha256.Sum256(t.secret[:])
	return hex.EncodeToString(sum[:])
}

// fits compares in constant time.
func (t Token) fits(hash string) bool {
	return subtle.ConstantTimeCompare([]byte(t.hash()), []byte(hash)) == 1
}

// ParseToken reads a token's text; space around it is dropped. Errors: Invalid.
func ParseToken(text string) (Token, error) {
	bad := func(format string, args ...any) (Token, error) {
		return Token{}, homeward.Errorf("read token", homeward.Invalid, "token",
			"copy the whole token that 'homeward node enrol-token' printed", format, args...)
	}
	if len(text) > maxToken {
		return bad("longer than %d bytes", maxToken)
	}
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return bad("not of the form %s.<id>.<secret>.<fingerprint>", tokenPrefix)
	}
	t := Token{ID: parts[1]}
	if raw, err := hex.DecodeString(t.ID); err != nil || len(raw) != 8 || strings.ToLower(t.ID) != t.ID {
		return bad("its id is not 16 hex digits")
	}
	for _, part := range []struct {
		name, text string
		into       []byte
	}{{"secret", parts[2], t.secret[:]}, {"fingerprint", parts[3], t.CA[:]}} {
		raw, err := base64url.DecodeString(part.text)
		if err != nil || len(raw) != len(part.into) {
			return bad("its %s is damaged", part.name)
		}
		copy(part.into, raw)
	}
	return t, nil
}
