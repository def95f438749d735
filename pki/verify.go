package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// verifier decides whether a peer's certificate is accepted.
type verifier struct {
	fsys  durable.FS
	list  string // path of the revocation lists, read at every handshake
	roots func() *x509.CertPool
	usage x509.ExtKeyUsage
	take  []Role
	now   func() time.Time
	// lapsed also takes a certificate that has expired, as long as its issuer has not.
	lapsed bool
}

// connection is a tls.Config.VerifyConnection; it also runs on resumed sessions.
func (v verifier) connection(cs tls.ConnectionState) error {
	const op = "authenticate peer"
	if len(cs.PeerCertificates) == 0 {
		return homeward.Errorf(op, homeward.Unauthentic, "", "give the peer an identity", "it showed no certificate")
	}
	leaf, at := cs.PeerCertificates[0], v.now()
	lapsed := v.lapsed && at.After(leaf.NotAfter)
	if lapsed {
		at = leaf.NotAfter
	}
	issuer, err := verifyChain(cs.PeerCertificates, v.roots(), v.usage, at)
	if err != nil {
		return err
	}
	if lapsed && v.now().After(issuer.NotAfter) {
		return homeward.Errorf(op, homeward.Unauthentic, leaf.Subject.CommonName,
			"make a new authority and enrol the nodes again", "its authority's certificate has expired too")
	}
	if err := checkRevoked(v.fsys, v.list, leaf, issuer); err != nil {
		return err
	}
	peer, err := peerOfCert(leaf)
	if err != nil {
		return err
	}
	return mayBe(peer, v.take)
}

func mayBe(peer Peer, take []Role) error {
	if slices.Contains(take, peer.Role) {
		return nil
	}
	return homeward.Errorf("authenticate peer", homeward.Forbidden, peer.String(),
		"check the address that was dialled, and which identity the peer uses",
		"its role may not do this; expected here: %s", listOf(take))
}

// verifyChain checks chain, dates and usage, and returns the leaf's issuer.
func verifyChain(certs []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, at time.Time) (*x509.Certificate, error) {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err == nil && len(chains[0]) < 2 { // anybody can show it: that its key is there is proven later
		return nil, homeward.Errorf("authenticate peer", homeward.Unauthentic, certs[0].Subject.CommonName,
			"issue the peer an identity of its own", "it shows the certificate of an authority, which is no node's")
	}
	if err == nil {
		return chains[0][1], nil
	}
	remedy := "issue the peer an identity again"
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		remedy = "give both nodes identities of the same authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && at.Before(certs[0].NotBefore):
		remedy = "set the clocks of both nodes right"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		remedy = "renew the peer's certificate, or set this node's clock right"
	}
	return nil, homeward.Errorf("authenticate peer", homeward.Unauthentic, certs[0].Subject.CommonName, remedy, "%w", err)
}

func peerOfCert(cert *x509.Certificate) (Peer, error) {
	if len(cert.URIs) != 1 || cert.IsCA {
		return Peer{}, homeward.Errorf("read identity", homeward.Unauthentic, cert.Subject.CommonName,
			"issue the node an identity with 'homeward pki issue'",
			"the certificate is not a node's: it has %d URIs where one belongs", len(cert.URIs))
	}
	peer, err := parsePeer(cert.URIs[0])
	if err != nil {
		return Peer{}, homeward.Errorf("read identity", homeward.Unauthentic, cert.Subject.CommonName,
			"issue the node an identity with 'homeward pki issue'", "%w", err)
	}
	return peer, nil
}

// PeerOf tells who is at the other end of a connection made with ServerTLS or
// ClientTLS (which have verified it). Unauthentic for one without certificate.
func PeerOf(cs *tls.ConnectionState) (Peer, error) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return Peer{}, homeward.Errorf("read identity", homeward.Unauthentic, "",
			"connect with TLS and a client certificate", "the peer showed no certificate")
	}
	return peerOfCert(cs.PeerCertificates[0])
}

// Explain makes sense of an error of a TLS handshake, or of the first read after
// it, which is where TLS 1.3 tells a client that it was refused. What verification
// here found keeps its kind and remedy; a refusal by the other side becomes
// Unauthentic; everything else that failed on the way is Unavailable.
func Explain(err error, op, subject string) error {
	var ours *homeward.Error
	var remote *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return homeward.Wrap(err, op, subject)
	case errors.As(err, &remote) && remote.Op == "remote error":
		return homeward.Errorf(op, homeward.Unauthentic, subject,
			"the reason is in the log of the other side; check this node's identity: authority, role, dates, revocation",
			"the other side refused this node: %w", err)
	case homeward.KindOf(err) != homeward.Internal:
		return homeward.Wrap(err, op, subject)
	}
	return homeward.Errorf(op, homeward.Unavailable, subject,
		"check the address, and that the other side is running", "%w", err)
}
