package pki

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

func TestSealedAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	key := SealingKey{1}
	if _, err := CreateAuthority(durable.OS(), dir, "test", SealedWith(key)); err != nil {
		t.Fatal(err)
	}
	_, err := OpenAuthority(durable.OS(), dir)
	wantKind(t, err, homeward.Invalid, "sealed")
	_, err = OpenAuthority(durable.OS(), dir, SealedWith(SealingKey{2}))
	wantKind(t, err, homeward.Unauthentic, "does not fit")
	a, err := OpenAuthority(durable.OS(), dir, SealedWith(key))
	if err != nil {
		t.Fatal(err)
	}
	load(t, issue(t, a, Request{Peer: Peer{Agent, "web01"}}))

	file := filepath.Join(dir, caKeyFile)
	sealed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sealed[len(sealed)/2] ^= 1
	overwrite(t, file, sealed)
	if _, err := OpenAuthority(durable.OS(), dir, SealedWith(key)); err == nil {
		t.Error("a damaged key was taken")
	}
}

func TestOpenAuthority_SealsAnOpenKey(t *testing.T) {
	_, dir := newTestAuthority(t)
	file := filepath.Join(dir, caKeyFile)
	for range 2 {
		if _, err := OpenAuthority(durable.OS(), dir, SealedWith(SealingKey{7})); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(data, []byte(sealedBlock)) || bytes.Contains(data, []byte("BEGIN "+keyBlock)) {
			t.Fatalf("the key lies open: %v", err)
		}
	}
}

func TestLoadSealingKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "authority.key")
	none := func(string) string { return "" }
	made, err := LoadSealingKey(durable.OS(), path, none)
	if err != nil || made == (SealingKey{}) {
		t.Fatalf("%x: %v", made, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v: %v", info.Mode(), err)
	}
	if again, err := LoadSealingKey(durable.OS(), path, none); err != nil || again != made {
		t.Errorf("another key the second time: %v", err)
	}
	const text = "0101010101010101010101010101010101010101010101010101010101010101"
	env := map[string]string{SealingVariable: text}
	if got, err := LoadSealingKey(durable.OS(), path, func(k string) string { return env[k] }); err != nil || got[5] != 1 {
		t.Errorf("from the environment: %x, %v", got, err)
	}
	creds := t.TempDir()
	overwrite(t, filepath.Join(creds, SealingCredential), bytes.ReplaceAll([]byte(text), []byte("01"), []byte("02")))
	env["CREDENTIALS_DIRECTORY"] = creds
	if got, err := LoadSealingKey(durable.OS(), path, func(k string) string { return env[k] }); err != nil || got[5] != 2 {
		t.Errorf("from a credential: %x, %v", got, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = LoadSealingKey(durable.OS(), path, none)
	wantKind(t, err, homeward.Forbidden, path)
	_, err = LoadSealingKey(durable.OS(), path, func(k string) string { return map[string]string{SealingVariable: "zz"}[k] })
	wantKind(t, err, homeward.Invalid, SealingVariable)
}
