package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// MaxCSR is the most bytes a certificate request may have.
const MaxCSR = 8 << 10

// Grant is what an authority gives a node for its request: all of an identity but
// the key, which never leaves the node.
type Grant struct {
	Certificate []byte   `json:"certificate"` // DER
	Authorities [][]byte `json:"authorities"` // to trust, DER
	Revoked     []byte   `json:"revoked"`     // the authority's revocation list, DER
}

// Issued describes a certificate without holding it.
type Issued struct {
	Serial string    `json:"serial"` // hex digits
	Key    string    `json:"key"`    // SHA-256 of its public key, hex digits
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
}

// Describe tells what a certificate is.
func Describe(cert *x509.Certificate) Issued {
	return Issued{Serial: cert.SerialNumber.Text(16), Key: keyDigest(cert.RawSubjectPublicKeyInfo), From: cert.NotBefore, Until: cert.NotAfter}
}

func keyDigest(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// CSR is a request (DER, PKCS #10) that was found to be in order: its sender holds
// the key. What else it says is not believed.
type CSR struct {
	key    *ecdsa.PublicKey
	digest string
	claims []Peer
}

// Key is the SHA-256 of the public key, as in Issued.
func (c CSR) Key() string { return c.digest }

// ParseCSR checks a request: P-256, signed with its own key, and no claim in it
// but, at most, that of being one node.
func ParseCSR(der []byte) (CSR, error) {
	bad := func(format string, args ...any) (CSR, error) {
		return CSR{}, homeward.Errorf("read certificate request", homeward.Invalid, "csr",
			"send a PKCS #10 request in DER, for a P-256 key, signed with that key", format, args...)
	}
	if len(der) > MaxCSR {
		return bad("%d bytes, at most %d belong", len(der), MaxCSR)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return bad("%w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return bad("%w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return bad("its key is not a P-256 one")
	}
	c := CSR{key: key, digest: keyDigest(r.RawSubjectPublicKeyInfo)}
	for _, u := range r.URIs {
		p, err := parsePeer(u)
		if err != nil {
			return bad("%w", err)
		}
		c.claims = append(c.claims, p)
	}
	return c, nil
}

// IssueCSR signs a node's request. Who the node is says r, never the request: one
// that claims to be somebody else is refused. Errors: Invalid, Forbidden.
func (a *Authority) IssueCSR(c CSR, r Request) (Grant, Issued, error) {
	const op = "issue certificate"
	if err := r.validate(); err != nil {
		return Grant{}, Issued{}, err
	}
	for _, p := range c.claims {
		if p != r.Peer {
			return Grant{}, Issued{}, homeward.Errorf(op, homeward.Forbidden, r.Peer.String(),
				"request a certificate for the node's own role and name", "the request claims to be %s", p)
		}
	}
	der, err := a.sign(r, c.key)
	if err != nil {
		return Grant{}, Issued{}, homeward.Wrap(err, op, r.String())
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Grant{}, Issued{}, homeward.Wrap(err, op, r.String())
	}
	list, err := a.Revocations()
	if err != nil {
		return Grant{}, Issued{}, homeward.Wrap(err, op, r.String())
	}
	return Grant{Certificate: der, Authorities: [][]byte{a.cert.Raw}, Revoked: list}, Describe(cert), nil
}

// NewCSR makes a certificate request for the identity directory at dir, which is
// created. Its key is pending until Install: asked again before that, the request
// is for the same key, so that a request whose answer was lost can be repeated.
func NewCSR(fsys durable.FS, dir string) ([]byte, error) {
	const op = "request certificate"
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	key, err := pendingKey(fsys, dir)
	if err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return der, homeward.Wrap(err, op, dir)
}

func pendingKey(fsys durable.FS, dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, nextKeyFile)
	// One that cannot be read was never certified by anybody: a fresh one will do.
	if keys, err := readPEM(fsys, path, keyBlock, parseKey); err == nil {
		return keys[0], nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, durable.WriteFile(fsys, path, encodePEM(keyBlock, der), 0o600)
}

// Install completes what NewCSR began: dir becomes, or stays, the identity of
// want, with what was granted. A crash amid it leaves either the old identity or
// the new one whole. Errors: Corrupt when the grant is not for want, not for the
// pending key, or not signed by the authorities in it.
func Install(fsys durable.FS, dir string, want Peer, g Grant) error {
	const op = "install certificate"
	list, issuer, err := g.check(want)
	if err != nil {
		return homeward.Wrap(err, op, dir)
	}
	keys, err := readPEM(fsys, filepath.Join(dir, nextKeyFile), keyBlock, parseKey)
	if err != nil {
		return homeward.Wrap(err, op, dir)
	}
	cert, err := x509.ParseCertificate(g.Certificate)
	if err != nil || !keys[0].PublicKey.Equal(cert.PublicKey) {
		return homeward.Errorf(op, homeward.Corrupt, dir, "request it again", "the certificate is for another key than the one that was asked for")
	}
	if err := takeList(fsys, dir, list, issuer); err != nil { // one that is newer here already stays
		return homeward.Wrap(err, op, dir)
	}
	for _, f := range []struct {
		name string
		data []byte
		perm fs.FileMode
	}{{caFile, encodePEM(certBlock, g.Authorities...), 0o644}, {certFile, encodePEM(certBlock, g.Certificate), 0o644}} {
		if err := durable.WriteFile(fsys, filepath.Join(dir, f.name), f.data, f.perm); err != nil {
			return homeward.Wrap(err, op, dir)
		}
	}
	// The certificate is in place and decides: keyFor finds the key under either name.
	if err := fsys.Rename(filepath.Join(dir, nextKeyFile), filepath.Join(dir, keyFile)); err != nil {
		return homeward.Wrap(err, op, dir)
	}
	return homeward.Wrap(fsys.SyncDir(dir), op, dir)
}

// check verifies a grant and returns its list and who signed it.
func (g Grant) check(want Peer) (list *x509.RevocationList, issuer *x509.Certificate, err error) {
	bad := func(format string, args ...any) (*x509.RevocationList, *x509.Certificate, error) {
		return nil, nil, homeward.Errorf("check certificate", homeward.Corrupt, want.String(), "request it again; look at the vault's log if it happens again", format, args...)
	}
	cert, err := x509.ParseCertificate(g.Certificate)
	if err != nil {
		return bad("%w", err)
	}
	if peer, err := peerOfCert(cert); err != nil || peer != want {
		return bad("the certificate is not this node's")
	}
	revoked, err := x509.ParseRevocationList(g.Revoked)
	if err != nil {
		return bad("revocation list: %w", err)
	}
	if len(g.Authorities) == 0 || len(g.Authorities) > maxBlocks {
		return bad("%d authorities", len(g.Authorities))
	}
	for _, der := range g.Authorities {
		ca, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("authority: %w", err)
		}
		if cert.CheckSignatureFrom(ca) == nil {
			issuer = ca
		}
	}
	if issuer == nil || revoked.CheckSignatureFrom(issuer) != nil {
		return bad("certificate and revocation list are not signed by the authority that came with them")
	}
	return revoked, issuer, nil
}

// Fingerprint is the SHA-256 digest of an authority's certificate.
type Fingerprint [sha256.Size]byte

// PinnedTLS is for dialling before one has an identity: TLS 1.3, no certificate of
// one's own, and only a peer of an expected role will do whose certificate the
// authority of this fingerprint signed.
func PinnedTLS(pin Fingerprint, expect ...Role) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // host names only: everything else is verified by:
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPinned(cs.PeerCertificates, pin, expect) },
	}
}

func verifyPinned(certs []*x509.Certificate, pin Fingerprint, expect []Role) error {
	const op = "authenticate peer"
	for _, ca := range certs {
		if sha256.Sum256(ca.Raw) != pin {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := verifyChain(certs, roots, x509.ExtKeyUsageServerAuth, time.Now()); err != nil {
			return err
		}
		peer, err := peerOfCert(certs[0])
		if err != nil {
			return err
		}
		return mayBe(peer, expect)
	}
	return homeward.Errorf(op, homeward.Unauthentic, "",
		"check the address and the fingerprint: somebody else may be answering", "it does not show the authority with fingerprint %x", pin[:8])
}

// Trusts reports whether the authority of this fingerprint is among those granted.
func (g Grant) Trusts(pin Fingerprint) bool {
	for _, der := range g.Authorities {
		if sha256.Sum256(der) == pin {
			return true
		}
	}
	return false
}

// NewCSR is that of the directory this identity was read from.
func (id *Identity) NewCSR() ([]byte, error) { return NewCSR(id.fsys, id.dir) }

// Install renews this identity, and is how its users see the new certificate.
func (id *Identity) Install(g Grant) error {
	if err := Install(id.fsys, id.dir, id.Peer(), g); err != nil {
		return err
	}
	if err := id.Reload(); err != nil {
		return err
	}
	id.cutRevoked() // a list came with it
	return nil
}
