package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Identity is what a node needs to prove who it is and to check who others are.
// Its certificate may be renewed under its users (Reload); who it is never
// changes. Safe for concurrent use.
type Identity struct {
	fsys durable.FS
	dir  string
	now  func() time.Time
	held atomic.Pointer[held]

	taking sync.Mutex // one revocation list is taken after the other
	watch  watch
}

// held is what was read from the directory, as a whole.
type held struct {
	peer  Peer
	chain tls.Certificate // Leaf is set
	key   *ecdsa.PrivateKey
	cas   []*x509.Certificate
	roots *x509.CertPool // of cas
}

// LoadIdentity reads an identity directory. A certificate that is expired or not
// yet valid loads: its node must be able to say so, and to renew it. Errors:
// NotFound and Corrupt name the file.
func LoadIdentity(fsys durable.FS, dir string) (*Identity, error) {
	h, err := readIdentity(fsys, dir)
	if err != nil {
		return nil, err
	}
	id := &Identity{fsys: fsys, dir: dir, now: time.Now}
	id.held.Store(h)
	return id, nil
}

// Reload reads the directory again: connections made from now on, also with
// configurations handed out before, show the certificate that is there now.
// Errors: those of LoadIdentity, and Conflict when another node's is there; what
// was held stays in use then.
func (id *Identity) Reload() error {
	h, err := readIdentity(id.fsys, id.dir)
	if err != nil {
		return err
	}
	if h.peer != id.Peer() {
		return homeward.Errorf("reload identity", homeward.Conflict, id.dir,
			"put this node's identity back, or restart it", "it is that of %s now, not of %s", h.peer, id.Peer())
	}
	id.held.Store(h)
	return nil
}

func readIdentity(fsys durable.FS, dir string) (*held, error) {
	const op = "load identity"
	cas, err := readPEM(fsys, filepath.Join(dir, caFile), certBlock, x509.ParseCertificate)
	if err != nil {
		return nil, explainMissing(op, dir, err)
	}
	certs, err := readPEM(fsys, filepath.Join(dir, certFile), certBlock, x509.ParseCertificate)
	if err != nil {
		return nil, explainMissing(op, dir, err)
	}
	key, err := keyFor(fsys, dir, certs[0])
	if err != nil {
		return nil, explainMissing(op, dir, err)
	}
	peer, err := peerOfCert(certs[0])
	if err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	h := &held{peer: peer, key: key, chain: tls.Certificate{PrivateKey: key, Leaf: certs[0]}, cas: cas, roots: x509.NewCertPool()}
	for _, c := range certs {
		h.chain.Certificate = append(h.chain.Certificate, c.Raw)
	}
	for _, c := range cas {
		h.roots.AddCert(c)
	}
	return h, nil
}

// keyFor finds the key of a certificate: after a crash amid a renewal it is still
// the pending one (see Install).
func keyFor(fsys durable.FS, dir string, cert *x509.Certificate) (*ecdsa.PrivateKey, error) {
	keys, err := readPEM(fsys, filepath.Join(dir, keyFile), keyBlock, parseKey)
	if err == nil && keys[0].PublicKey.Equal(cert.PublicKey) {
		return keys[0], nil
	}
	if next, nextErr := readPEM(fsys, filepath.Join(dir, nextKeyFile), keyBlock, parseKey); nextErr == nil && next[0].PublicKey.Equal(cert.PublicKey) {
		return next[0], nil
	}
	if err != nil {
		return nil, err
	}
	return nil, homeward.Errorf("load key", homeward.Corrupt, dir,
		"issue the identity again", "%s and %s do not belong together", certFile, keyFile)
}

func explainMissing(op, dir string, err error) error {
	if homeward.KindOf(err) != homeward.NotFound {
		return homeward.Wrap(err, op, dir)
	}
	return homeward.Errorf(op, homeward.NotFound, dir,
		"issue one with 'homeward pki issue', or give its directory with --identity", "not an identity: %w", err)
}

// Peer is who this identity is.
func (id *Identity) Peer() Peer { return id.held.Load().peer }

// Request asks for what the certificate says now, once more.
func (id *Identity) Request() Request {
	h := id.held.Load()
	return Request{Peer: h.peer, DNSNames: h.chain.Leaf.DNSNames, Addresses: h.chain.Leaf.IPAddresses}
}

// Roots are the authorities this node trusts.
func (id *Identity) Roots() *x509.CertPool { return id.held.Load().roots }

// Issued is when the certificate began to be valid.
func (id *Identity) Issued() time.Time { return id.held.Load().chain.Leaf.NotBefore }

// Expires is when the certificate ends to be valid.
func (id *Identity) Expires() time.Time { return id.held.Load().chain.Leaf.NotAfter }

// ServerTLS is for listening: TLS 1.3, a client certificate is demanded, and only
// peers of the allowed roles pass. Set NextProtos on the result as needed.
func (id *Identity) ServerTLS(allow ...Role) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &id.held.Load().chain, nil
		},
		ClientAuth:       tls.RequireAnyClientCert, // and then verified by:
		VerifyConnection: id.verifier(x509.ExtKeyUsageClientAuth, allow).connection,
	}
}

// EnrolmentTLS is for listening to nodes that enrol or renew, and for nothing
// else: a client without certificate passes, and so does one whose certificate has
// expired but is not revoked (PeerOf says who it is). The authorities' own
// certificates are shown too, so that a client that knows a fingerprint alone can
// check it (PinnedTLS).
func (id *Identity) EnrolmentTLS() *tls.Config {
	check := id.verifier(x509.ExtKeyUsageClientAuth, Roles())
	check.lapsed = true
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			h := id.held.Load()
			chain := h.chain
			chain.Certificate = append([][]byte(nil), chain.Certificate...)
			for _, c := range h.cas {
				chain.Certificate = append(chain.Certificate, c.Raw)
			}
			return &chain, nil
		},
		ClientAuth:             tls.RequestClientCert, // and then verified by:
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			return check.connection(cs)
		},
	}
}

// ClientTLS is for dialling: TLS 1.3, and only a peer of an expected role will
// do; Named also says which one. The address that was dialled plays no part: see
// DESIGN.md.
func (id *Identity) ClientTLS(expect ...Role) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &id.held.Load().chain, nil
		},
		InsecureSkipVerify: true, // host names only: everything else is verified by:
		VerifyConnection:   id.verifier(x509.ExtKeyUsageServerAuth, expect).connection,
	}
}

// Named is a configuration that also demands the peer's name; empty: any will do. It is
// for those of ServerTLS and ClientTLS.
func Named(config *tls.Config, name string) *tls.Config {
	if name == "" {
		return config
	}
	named, verify := config.Clone(), config.VerifyConnection
	named.VerifyConnection = func(cs tls.ConnectionState) error {
		if verify != nil {
			if err := verify(cs); err != nil {
				return err
			}
		}
		peer, err := PeerOf(&cs)
		if err == nil && peer.Name != name {
			err = homeward.Errorf("authenticate peer", homeward.Forbidden, peer.String(),
				"check the address that was dialled, and which identity the peer uses", "%s is expected here", name)
		}
		return err
	}
	return named
}

func (id *Identity) verifier(usage x509.ExtKeyUsage, take []Role) verifier {
	return verifier{fsys: id.fsys, list: filepath.Join(id.dir, revokedFile), roots: id.Roots, usage: usage, take: take, now: id.now}
}
