package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// The files of the two kinds of directory; see the package document.
const (
	caFile      = "ca.pem"
	caKeyFile   = "ca-key.pem"
	certFile    = "cert.pem"
	keyFile     = "key.pem"
	nextKeyFile = "next-key.pem"
	revokedFile = "revoked.pem"
	lockFile    = "lock"
)

// The types of PEM blocks in them.
const (
	certBlock   = "CERTIFICATE"
	keyBlock    = "PRIVATE KEY"
	sealedBlock = "HOMEWARD SEALED KEY"
	listBlock   = "X509 CRL"
)

// maxBlocks bounds how many certificates or lists one file may hold.
const maxBlocks = 64

func encodePEM(kind string, ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return out
}

// readPEM reads all blocks of a file, at least one, all of the same kind.
func readPEM[T any](fsys durable.FS, path, kind string, parse func(der []byte) (T, error)) ([]T, error) {
	data, err := durable.ReadFile(fsys, path)
	if err != nil {
		return nil, homeward.Wrap(err, "read", path)
	}
	list, err := parsePEM(data, kind, parse)
	if err != nil {
		return nil, homeward.Errorf("read", homeward.Corrupt, path, "copy or issue it again", "%w", err)
	}
	return list, nil
}

func parsePEM[T any](data []byte, kind string, parse func(der []byte) (T, error)) ([]T, error) {
	bad := func(format string, args ...any) ([]T, error) {
		return nil, homeward.Errorf("parse pem", homeward.Corrupt, "", "copy or issue it again", format, args...)
	}
	var list []T
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != kind {
			return bad("holds a %q where a %q belongs", block.Type, kind)
		}
		if len(list) == maxBlocks {
			return bad("holds more than %d blocks", maxBlocks)
		}
		v, err := parse(block.Bytes)
		if err != nil {
			return bad("%w", err)
		}
		list, data = append(list, v), rest
	}
	if len(list) == 0 {
		return bad("holds no PEM block of type %q", kind)
	}
	return list, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, homeward.Errorf("parse key", homeward.Unsupported, "", "issue the identity again",
			"a %T, where an ECDSA key belongs", key)
	}
	return k, nil
}
