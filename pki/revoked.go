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

// Bounds of a revocation list.
const (
	// maxRevoked is how many certificates it names at most: some 8 MB.
	maxRevoked = 200_000
	// revokedFor is how long one stays on it: until it has long expired by itself.
	revokedFor = 2 * maxLifetime
)

// lapsed tells that an entry need not be on the list any more.
func lapsed(e x509.RevocationListEntry, at time.Time) bool {
	return e.RevocationTime.Add(revokedFor).Before(at)
}

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
	entries := slices.DeleteFunc(slices.Clone(list.RevokedCertificateEntries), func(e x509.RevocationListEntry) bool { return lapsed(e, time.Now()) })
	kept := len(entries)
	for _, s := range serials {
		if !onList(list, s) {
			entries = append(entries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
		}
	}
	if len(entries) == kept { // those that lapsed leave with the next that comes
		return nil
	}
	if len(entries) > maxRevoked {
		return homeward.Errorf(op, homeward.NoSpace, subject, "make a new authority and enrol the nodes again", "%d certificates are revoked, at most %d fit on the list", kept, maxRevoked)
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
// one (DER), durably: handshakes go by it from now on, and watched connections of
// peers on it are closed (Watch). An older one, and the
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
	if err := takeList(id.fsys, id.dir, list, h.cas[issuer]); err != nil {
		return homeward.Wrap(err, op, id.dir)
	}
	id.cutRevoked()
	return nil
}

// takeList puts a list that issuer signed into an identity's directory, unless one there
// is as new, and keeps beside it what says more.
func takeList(fsys durable.FS, dir string, list *x509.RevocationList, issuer *x509.Certificate) error {
	path := filepath.Join(dir, revokedFile)
	ders := [][]byte{list.Raw}
	// A list that cannot be read makes this node refuse everybody: any is better.
	old, _ := readPEM(fsys, path, listBlock, x509.ParseRevocationList)
	for _, o := range old {
		ours := o.CheckSignatureFrom(issuer) == nil
		if ours && o.Number.Cmp(list.Number) >= 0 {
			return nil
		}
		if (!ours || !covers(list, o)) && len(ders) < maxBlocks {
			ders = append(ders, o.Raw)
		}
	}
	return durable.WriteFile(fsys, path, encodePEM(listBlock, ders...), 0o644)
}

// lists are those that lie in the identity's directory.
func (id *Identity) lists() ([]*x509.RevocationList, error) {
	return readPEM(id.fsys, filepath.Join(id.dir, revokedFile), listBlock, x509.ParseRevocationList)
}

// Revoked reports whether a certificate of that serial number (Issued.Serial) is on a
// list that this node has.
func (id *Identity) Revoked(serial string) (bool, error) {
	lists, err := id.lists()
	if err != nil {
		return false, homeward.Wrap(err, "read revocations", id.dir)
	}
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		return false, homeward.Errorf("read revocations", homeward.Invalid, "serial", "give the hex digits of a certificate's serial number", "%q", serial)
	}
	return slices.ContainsFunc(lists, func(l *x509.RevocationList) bool { return onList(l, number) }), nil
}

// OtherRevocations are the lists (DER) here that say more than a given one of an
// authority of this node: what it has forgotten if it was put back from an older copy,
// for Authority.Relearn.
func (id *Identity) OtherRevocations(der []byte) ([][]byte, error) {
	const op = "compare revocation lists"
	given, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, homeward.Errorf(op, homeward.Invalid, id.dir, "send the authority's list", "%w", err)
	}
	lists, err := id.lists()
	if err != nil {
		return nil, homeward.Wrap(err, op, id.dir)
	}
	var others [][]byte
	for _, l := range lists {
		if !covers(given, l) && string(l.RawIssuer) == string(given.RawIssuer) {
			others = append(others, l.Raw)
		}
	}
	return others, nil
}

// Relearn takes into the authority's own list what another list of its own (DER) says
// beyond it, as nodes have it after the authority was put back from an older copy. It
// tells how many certificates that is. Errors: Unauthentic when this authority did not
// sign the list.
func (a *Authority) Relearn(der []byte) (int, error) {
	const op = "learn revocations"
	other, err := x509.ParseRevocationList(der)
	if err != nil {
		return 0, homeward.Errorf(op, homeward.Invalid, a.dir, "send a list of this authority", "%w", err)
	}
	if err := other.CheckSignatureFrom(a.cert); err != nil {
		return 0, homeward.Errorf(op, homeward.Unauthentic, a.dir, "send a list of this authority", "it did not sign this one: %w", err)
	}
	own, err := a.revoked()
	if err != nil {
		return 0, homeward.Wrap(err, op, a.dir)
	}
	var missing []*big.Int
	for _, e := range other.RevokedCertificateEntries {
		if !lapsed(e, time.Now()) && !onList(own, e.SerialNumber) {
			missing = append(missing, e.SerialNumber)
		}
	}
	return len(missing), a.revoke(a.dir, missing...)
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

// covers reports whether everything on the older list that still counts is on the newer one.
func covers(newer, older *x509.RevocationList) bool {
	on := make(map[string]bool, len(newer.RevokedCertificateEntries))
	for _, e := range newer.RevokedCertificateEntries {
		on[string(e.SerialNumber.Bytes())] = true
	}
	return !slices.ContainsFunc(older.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return !on[string(e.SerialNumber.Bytes())] && !lapsed(e, newer.ThisUpdate)
	})
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
