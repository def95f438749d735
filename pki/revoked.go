package pki

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Revoke puts the certificate of an identity directory on the authority's list
// and makes the list durable; revoking one again is no error. The list takes
// effect at a node when it is copied there: see Authority.Distribute. Errors:
// InUse when another process changes the list right now; Invalid when the
// certificate is another authority's.
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
	lock, err := durable.LockFile(a.fsys, filepath.Join(a.dir, lockFile))
	if err != nil {
		return homeward.Wrap(err, op, identityDir)
	}
	defer func() { _ = lock.Unlock() }() // at the latest it ends with the process
	lists, err := readPEM(a.fsys, filepath.Join(a.dir, revokedFile), listBlock, x509.ParseRevocationList)
	if err != nil {
		return homeward.Wrap(err, op, identityDir)
	}
	if lists[0].CheckSignatureFrom(a.cert) != nil || len(lists) != 1 {
		return homeward.Errorf(op, homeward.Corrupt, a.dir, "restore it from a copy", "%s is not this authority's list", revokedFile)
	}
	if onList(lists[0], certs[0].SerialNumber) {
		return nil
	}
	entries := append(lists[0].RevokedCertificateEntries,
		x509.RevocationListEntry{SerialNumber: certs[0].SerialNumber, RevocationTime: time.Now()})
	err = a.writeList(&x509.RevocationList{
		Number:                    new(big.Int).Add(lists[0].Number, big.NewInt(1)),
		RevokedCertificateEntries: entries,
	})
	return homeward.Wrap(err, op, identityDir)
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
	for _, list := range lists {
		if list.CheckSignatureFrom(issuer) != nil {
			continue
		}
		if onList(list, cert.SerialNumber) {
			return homeward.Errorf(op, homeward.Unauthentic, cert.Subject.CommonName,
				"issue that node a new identity if it is to be trusted again", "its certificate was revoked")
		}
		return nil
	}
	return homeward.Errorf(op, homeward.Unauthentic, path,
		"copy the authority's "+revokedFile+" into this node's identity directory",
		"no revocation list of the authority %q", issuer.Subject.CommonName)
}
