package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Identity is what a node needs to prove who it is and to check who others are.
// Immutable; safe for concurrent use.
type Identity struct {
	peer  Peer
	chain tls.Certificate // Leaf is set
	key   *ecdsa.PrivateKey
	check verifier
}

// LoadIdentity reads an identity directory. A certificate that is expired or not
// yet valid loads: its node must be able to say so, and to renew it. Errors:
// NotFound and Corrupt name the file.
func LoadIdentity(fsys durable.FS, dir string) (*Identity, error) {
	const op = "load identity"
	roots, err := readPEM(fsys, filepath.Join(dir, caFile), certBlock, x509.ParseCertificate)
	if err != nil {
		return nil, explainMissing(op, dir, err)
	}
	certs, err := readPEM(fsys, filepath.Join(dir, certFile), certBlock, x509.ParseCertificate)
	if err != nil {
		return nil, explainMissing(op, dir, err)
	}
	keys, err := readPEM(fsys, filepath.Join(dir, keyFile), keyBlock, parseKey)
	if err != nil {
		return nil, explainMissing(op, dir, err)
	}
	if !keys[0].PublicKey.Equal(certs[0].PublicKey) {
		return nil, homeward.Errorf(op, homeward.Corrupt, dir,
			"issue the identity again", "%s and %s do not belong together", certFile, keyFile)
	}
	peer, err := peerOfCert(certs[0])
	if err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	id := &Identity{
		peer:  peer,
		chain: tls.Certificate{PrivateKey: keys[0], Leaf: certs[0]},
		key:   keys[0],
		check: verifier{fsys: fsys, list: filepath.Join(dir, revokedFile), roots: x509.NewCertPool(), now: time.Now},
	}
	for _, c := range certs {
		id.chain.Certificate = append(id.chain.Certificate, c.Raw)
	}
	for _, c := range roots {
		id.check.roots.AddCert(c)
	}
	return id, nil
}

func explainMissing(op, dir string, err error) error {
	if homeward.KindOf(err) != homeward.NotFound {
		return homeward.Wrap(err, op, dir)
	}
	return homeward.Errorf(op, homeward.NotFound, dir,
		"issue one with 'homeward pki issue', or give its directory with --identity", "not an identity: %w", err)
}

// Peer is who this identity is.
func (id *Identity) Peer() Peer { return id.peer }

// Roots are the authorities this node trusts.
func (id *Identity) Roots() *x509.CertPool { return id.check.roots }

// Expires is when the certificate ends to be valid.
func (id *Identity) Expires() time.Time { return id.chain.Leaf.NotAfter }

// ServerTLS is for listening: TLS 1.3, a client certificate is demanded, and only
// peers of the allowed roles pass. Set NextProtos on the result as needed.
func (id *Identity) ServerTLS(allow ...Role) *tls.Config {
	check := id.check
	check.usage, check.take = x509.ExtKeyUsageClientAuth, allow
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		Certificates:     []tls.Certificate{id.chain},
		ClientAuth:       tls.RequireAnyClientCert, // and then verified by:
		VerifyConnection: check.connection,
	}
}

// ClientTLS is for dialling: TLS 1.3, and only a peer of an expected role will
// do. The address that was dialled plays no part: see DESIGN.md.
func (id *Identity) ClientTLS(expect ...Role) *tls.Config {
	check := id.check
	check.usage, check.take = x509.ExtKeyUsageServerAuth, expect
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{id.chain},
		InsecureSkipVerify: true, // host names only: everything else is verified by:
		VerifyConnection:   check.connection,
	}
}
