package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"path/filepath"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// SealingKey encrypts an authority's private key at rest (AES-256-GCM, bound to
// the authority's certificate), so that a copy of the authority's directory alone
// is of no use.
type SealingKey [32]byte

// Where LoadSealingKey looks, before it looks for a file.
const (
	SealingCredential = "homeward-authority-key" // name of a systemd credential
	SealingVariable   = "HOMEWARD_AUTHORITY_KEY" // environment
)

// LoadSealingKey is FindSealingKey; if there is none, one is made in the file at path
// (mode 0600, random). A file beside the authority protects copies of the authority's
// directory, not the host: put path, or a credential, where backups of the authority
// do not go.
func LoadSealingKey(fsys durable.FS, path string, getenv func(string) string) (SealingKey, error) {
	key, found, err := FindSealingKey(fsys, path, getenv)
	if found || err != nil {
		return key, err
	}
	_, _ = rand.Read(key[:]) // crypto/rand.Read never fails: it crashes the program instead
	text := []byte(hex.EncodeToString(key[:]) + "\n")
	return key, homeward.Wrap(durable.WriteFile(fsys, path, text, 0o600), "load sealing key", path)
}

// FindSealingKey finds the key, 64 hex digits: the systemd credential of that name
// ($CREDENTIALS_DIRECTORY), else the environment variable, else the file at path,
// which may be empty. found: there is one.
func FindSealingKey(fsys durable.FS, path string, getenv func(string) string) (key SealingKey, found bool, err error) {
	const op = "load sealing key"
	if dir := getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		file := filepath.Join(dir, SealingCredential)
		data, err := durable.ReadFile(fsys, file)
		if err == nil {
			key, err = parseSealingKey(data, file)
			return key, err == nil, err
		}
		if homeward.KindOf(err) != homeward.NotFound {
			return key, false, homeward.Wrap(err, op, file)
		}
	}
	if text := getenv(SealingVariable); text != "" {
		key, err = parseSealingKey([]byte(text), SealingVariable)
		return key, err == nil, err
	}
	if path == "" {
		return key, false, nil
	}
	data, err := durable.ReadFile(fsys, path)
	switch {
	case homeward.KindOf(err) == homeward.NotFound:
		return key, false, nil
	case err != nil:
		return key, false, homeward.Wrap(err, op, path)
	}
	key, err = openSealingFile(fsys, path, data)
	return key, err == nil, err
}

// openSealingFile refuses a file that others may read.
func openSealingFile(fsys durable.FS, path string, data []byte) (SealingKey, error) {
	info, err := fsys.Stat(path)
	if err != nil {
		return SealingKey{}, homeward.Wrap(err, "load sealing key", path)
	}
	if open := info.Mode().Perm() & (fs.ModePerm &^ 0o700); open != 0 {
		return SealingKey{}, homeward.Errorf("load sealing key", homeward.Forbidden, path,
			"make it readable by its owner alone: chmod 600", "its mode is %v", info.Mode().Perm())
	}
	return parseSealingKey(data, path)
}

func parseSealingKey(data []byte, source string) (SealingKey, error) {
	var key SealingKey
	raw, err := hex.DecodeString(string(bytes.TrimSpace(data)))
	if err != nil || len(raw) != len(key) {
		return key, homeward.Errorf("load sealing key", homeward.Invalid, source, "give 64 hex digits", "not a key")
	}
	copy(key[:], raw)
	return key, nil
}

func (k *SealingKey) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// writeKey writes the authority's private key, sealed if it is to be.
func (a *Authority) writeKey() error {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	kind := keyBlock
	if a.seal != nil {
		aead, err := a.seal.aead()
		if err != nil {
			return err
		}
		kind, der = sealedBlock, aead.Seal(nil, nil, der, a.cert.Raw)
	}
	return durable.WriteFile(a.fsys, filepath.Join(a.dir, caKeyFile), encodePEM(kind, der), 0o600)
}

// readKey reads it, and seals one that lay open.
func (a *Authority) readKey() error {
	path := filepath.Join(a.dir, caKeyFile)
	data, err := durable.ReadFile(a.fsys, path)
	if err != nil {
		return homeward.Wrap(err, "read", path)
	}
	block, _ := pem.Decode(data)
	sealed := block != nil && block.Type == sealedBlock
	if sealed {
		a.key, err = a.unseal(block.Bytes)
	} else {
		a.key, err = parseOneKey(data)
	}
	if err != nil {
		return homeward.Wrap(err, "read", path)
	}
	if !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return homeward.Errorf("read", homeward.Corrupt, a.dir,
			"restore both files from the same copy", "%s and %s do not belong together", caFile, caKeyFile)
	}
	if a.seal != nil && !sealed {
		return a.writeKey()
	}
	return nil
}

func parseOneKey(data []byte) (*ecdsa.PrivateKey, error) {
	keys, err := parsePEM(data, keyBlock, parseKey)
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}

func (a *Authority) unseal(sealed []byte) (*ecdsa.PrivateKey, error) {
	const op = "unseal key"
	if a.seal == nil {
		return nil, homeward.Errorf(op, homeward.Invalid, a.dir,
			"give its sealing key: the systemd credential "+SealingCredential+", "+SealingVariable+", or the file with --sealing-key", "the authority's key is sealed")
	}
	aead, err := a.seal.aead()
	if err != nil {
		return nil, err
	}
	der, err := aead.Open(nil, nil, sealed, a.cert.Raw)
	if err != nil {
		return nil, homeward.Errorf(op, homeward.Unauthentic, a.dir,
			"give the sealing key that it was sealed with", "the sealing key does not fit, or %s is damaged", caKeyFile)
	}
	return parseKey(der)
}
