package pki

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"path/filepath"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Revoke puts the certificate of an identity directory on the authority's list
// and makes the list durable; revoking one again is no error. The list takes
// effect at a node when it is there: see Authority.Distribute and
// Identity.TakeRevocations. Errors: InUse when another process changes the list
// right now; Invalid when the certificate is another authority's.
func (a *Authority) Revoke(identityDir string) error {
	const op = "revoke"
	certs, err := readPEM(a.fsys, filepath.Join(identityDir, certFile), certBlock, x509.ParseCertificate)
	if err != nil {
		return homeward.Wrap(err, op, identityDir)
	}
	if err := certs[0].CheckSignatureFrom(a.cert); err != nil {
		return homeward.Errorf(op, homeward.Invalid, identityDir,
			"use the authority that issued it", "not issued by the authority in %s: %w", a.dir, err)
	}
	return a.revoke(identityDir, certs[0].SerialNumber)
}

// RevokeSerials does the same for certificates of which only the serial numbers
// (Issued.Serial) are at hand; all of them or none.
func (a *Authority) RevokeSerials(serials ...string) error {
	numbers := make([]*big.Int, len(serials))
	for i, s := range serials {
		n, ok := new(big.Int).SetString(s, 16)
		if !ok || n.Sign() <= 0 {
			return homeward.Errorf("revoke", homeward.Invalid, "serial", "give the hex digits of a certificate's serial number", "%q", s)
		}
		numbers[i] = n
	}
	return a.revoke(a.dir, numbers...)
}

func (a *Authority) revoke(subject string, serials ...*big.Int) error {
	const op = "revoke"
	a.mu.Lock()
	defer a.mu.Unlock()
	lock, err := durable.LockFile(a.fsys, filepath.Join(a.dir, lockFile))
	if err != nil {
		return homeward.Wrap(err, op, subject)
	}
	defer func() { _ = lock.Unlock() }() // at the latest it ends with the process
	list, err := a.revoked()
	if err != nil {
		return homeward.Wrap(err, op, subject)
	}
	entries := list.RevokedCertificateEntries
	for _, s := range serials {
		if !onList(list, s) {
			entries = append(entries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
		}
	}
	if len(entries) == len(list.RevokedCertificateEntries) {
		return nil
	}
	number := new(big.Int).Add(list.Number, big.NewInt(1))
	if now := big.NewInt(time.Now().UnixMicro()); now.Cmp(number) > 0 {
		// Nodes may have newer lists than an authority that was put back from a copy
		// knows of: what it revokes from then on must be newer than those.
		number = now
	}
	err = a.writeList(&x509.RevocationList{Number: number, RevokedCertificateEntries: entries})
	return homeward.Wrap(err, op, subject)
}

// revoked reads the authority's own list.
func (a *Authority) revoked() (*x509.RevocationList, error) {
	lists, err := readPEM(a.fsys, filepath.Join(a.dir, revokedFile), listBlock, x509.ParseRevocationList)
	if err != nil {
		return nil, err
	}
	if len(lists) != 1 || lists[0].CheckSignatureFrom(a.cert) != nil {
		return nil, homeward.Errorf("read revocations", homeward.Corrupt, a.dir, "restore it from a copy", "%s is not this authority's list", revokedFile)
	}
	return lists[0], nil
}

// Revocations is the authority's list, DER: what Identity.TakeRevocations takes.
func (a *Authority) Revocations() ([]byte, error) {
	list, err := a.revoked()
	if err != nil {
		return nil, homeward.Wrap(err, "read revocations", a.dir)
	}
	return list.Raw, nil
}

// TakeRevocations replaces the list of one of this node's authorities by a newer
// one (DER), durably; it counts from the next handshake. An older one, and the
// same again, change nothing. Nothing that was revoked becomes good again: an older
// list of which something is missing in the newer one, as after an authority was put
// back from a copy, is kept beside it. Errors: Unauthentic when none of the
// authorities signed it.
func (id *Identity) TakeRevocations(der []byte) error {
	const op = "take revocation list"
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return homeward.Errorf(op, homeward.Invalid, id.dir, "send the authority's list", "%w", err)
	}
	h := id.held.Load()
	issuer := slices.IndexFunc(h.cas, func(ca *x509.Certificate) bool { return list.CheckSignatureFrom(ca) == nil })
	if issuer < 0 {
		return homeward.Errorf(op, homeward.Unauthentic, id.dir, "send that of an authority this node trusts", "no authority of this node signed it")
	}
	id.taking.Lock()
	defer id.taking.Unlock()
	path := filepath.Join(id.dir, revokedFile)
	ders := [][]byte{der}
	// A list that cannot be read makes this node refuse everybody: any is better.
	old, _ := readPEM(id.fsys, path, listBlock, x509.ParseRevocationList)
	for _, o := range old {
		ours := o.CheckSignatureFrom(h.cas[issuer]) == nil
		if ours && o.Number.Cmp(list.Number) >= 0 {
			return nil
		}
		if (!ours || !covers(list, o)) && len(ders) < maxBlocks {
			ders = append(ders, o.Raw)
		}
	}
	return homeward.Wrap(durable.WriteFile(id.fsys, path, encodePEM(listBlock, ders...), 0o644), op, id.dir)
}

// Distribute copies the authority's list to an identity directory, where the
// node reads it at its next handshake.
func (a *Authority) Distribute(identityDir string) error {
	const op = "distribute revocation list"
	list, err := durable.ReadFile(a.fsys, filepath.Join(a.dir, revokedFile))
	if err != nil {
		return homeward.Wrap(err, op, a.dir)
	}
	return homeward.Wrap(durable.WriteFile(a.fsys, filepath.Join(identityDir, revokedFile), list, 0o644), op, identityDir)
}

// writeList signs the list. It stays current as long as the authority: a node
// must go on working while nobody can send it a newer one.
func (a *Authority) writeList(list *x509.RevocationList) error {
	list.ThisUpdate = time.Now()
	list.NextUpdate = a.cert.NotAfter
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		return err
	}
	return durable.WriteFile(a.fsys, filepath.Join(a.dir, revokedFile), encodePEM(listBlock, der), 0o644)
}

// covers reports whether everything on the older list is on the newer one.
func covers(newer, older *x509.RevocationList) bool {
	on := make(map[string]bool, len(newer.RevokedCertificateEntries))
	for _, e := range newer.RevokedCertificateEntries {
		on[string(e.SerialNumber.Bytes())] = true
	}
	return !slices.ContainsFunc(older.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return !on[string(e.SerialNumber.Bytes())] })
}

func onList(list *x509.RevocationList, serial *big.Int) bool {
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}

// checkRevoked refuses a certificate that its issuer revoked, and one whose
// issuer's list cannot be read: not knowing is no permission.
func checkRevoked(fsys durable.FS, path string, cert, issuer *x509.Certificate) error {
	const op = "check revocation"
	lists, err := readPEM(fsys, path, listBlock, x509.ParseRevocationList)
	if err != nil {
		return homeward.Errorf(op, homeward.Unauthentic, path,
			"copy the authority's "+revokedFile+" into this node's identity directory", "revocation list: %w", err)
	}
	found := false
	for _, list := range lists {
		if list.CheckSignatureFrom(issuer) != nil {
			continue
		}
		found = true
		if onList(list, cert.SerialNumber) {
			return homeward.Errorf(op, homeward.Unauthentic, cert.Subject.CommonName,
				"issue that node a new identity if it is to be trusted again", "its certificate was revoked")
		}
	}
	if found {
		return nil
	}
	return homeward.Errorf(op, homeward.Unauthentic, path,
		"copy the authority's "+revokedFile+" into this node's identity directory",
		"no revocation list of the authority %q", issuer.Subject.CommonName)
}
