package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Lifetimes.
const (
	// AuthorityLifetime is how long an authority's certificate is valid.
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	// DefaultLifetime is how long a node's certificate is valid unless told.
	DefaultLifetime = 30 * 24 * time.Hour
	// maxLifetime is the longest that can be asked for.
	maxLifetime = 366 * 24 * time.Hour
	// clockSlack is how far a node's clock may be behind the authority's.
	clockSlack = 5 * time.Minute
)

// Authority issues and revokes the certificates of nodes. Safe for concurrent
// use, also by several processes on one directory.
type Authority struct {
	fsys durable.FS
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	seal *SealingKey // nil: the key lies open in its file

	mu sync.Mutex // the list of revocations changes under it
}

// Option of an authority.
type Option func(*Authority)

// SealedWith keeps the authority's private key encrypted in its file. An
// authority that was not is sealed when it is opened so.
func SealedWith(key SealingKey) Option { return func(a *Authority) { a.seal = &key } }

// CreateAuthority makes a new authority in dir, which is created. name is for
// people and stands in its certificate. Errors: Exists when dir holds one.
func CreateAuthority(fsys durable.FS, dir, name string, options ...Option) (*Authority, error) {
	const op = "create authority"
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	lock, err := durable.LockFile(fsys, filepath.Join(dir, lockFile))
	if err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	defer func() { _ = lock.Unlock() }() // at the latest it ends with the process
	switch _, err := fsys.Stat(filepath.Join(dir, caFile)); {
	case err == nil:
		return nil, homeward.Errorf(op, homeward.Exists, dir,
			"use it, or choose another directory", "holds an authority already")
	case !errors.Is(err, fs.ErrNotExist):
		return nil, homeward.Wrap(err, op, dir)
	}
	a, err := newAuthority(fsys, dir, name)
	if err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	for _, o := range options {
		o(a)
	}
	// The certificate comes last: with it the authority exists.
	if err := a.writeKey(); err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	if err := a.writeList(&x509.RevocationList{Number: big.NewInt(0)}); err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	if err := durable.WriteFile(fsys, filepath.Join(dir, caFile), encodePEM(certBlock, a.cert.Raw), 0o644); err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	return a, nil
}

func newAuthority(fsys durable.FS, dir, name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"Homeward"}, CommonName: name},
		NotBefore:             now.Add(-clockSlack),
		NotAfter:              now.Add(AuthorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{fsys: fsys, dir: dir, cert: cert, key: key}, nil
}

// OpenAuthority opens the authority in dir. Errors: NotFound when there is none;
// Invalid when its key is sealed and no SealedWith is given, Unauthentic when that
// is not the one it was sealed with.
func OpenAuthority(fsys durable.FS, dir string, options ...Option) (*Authority, error) {
	const op = "open authority"
	certs, err := readPEM(fsys, filepath.Join(dir, caFile), certBlock, x509.ParseCertificate)
	if err != nil {
		if homeward.KindOf(err) == homeward.NotFound {
			return nil, homeward.Errorf(op, homeward.NotFound, dir,
				"create one with 'homeward pki init'", "holds no authority")
		}
		return nil, homeward.Wrap(err, op, dir)
	}
	a := &Authority{fsys: fsys, dir: dir, cert: certs[0]}
	for _, o := range options {
		o(a)
	}
	if err := a.readKey(); err != nil {
		return nil, homeward.Wrap(err, op, dir)
	}
	return a, nil
}

// Roots trusts this authority alone.
func (a *Authority) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Fingerprint is the SHA-256 digest of the authority's certificate: who knows it
// can recognize everything else (PinnedTLS).
func (a *Authority) Fingerprint() Fingerprint { return sha256.Sum256(a.cert.Raw) }

// Request asks for an identity.
type Request struct {
	Peer
	// DNSNames and Addresses are put into the certificate for tools that verify
	// host names; Homeward does not. At most 100 in all.
	DNSNames  []string
	Addresses []net.IP
	// From is when it begins to be valid; zero: now.
	From time.Time
	// Lifetime is how long from then; zero: DefaultLifetime. At most a year.
	Lifetime time.Duration
}

func (r Request) validate() error {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf("validate request", homeward.Invalid, field, fix, format, args...)
	}
	if err := r.Validate(); err != nil {
		return err
	}
	if r.Lifetime < 0 || r.Lifetime > maxLifetime {
		return bad("lifetime", "give a positive duration of at most a year", "%v", r.Lifetime)
	}
	if n := len(r.DNSNames) + len(r.Addresses); n > 100 {
		return bad("addresses", "give at most 100 names and addresses", "%d", n)
	}
	for _, name := range r.DNSNames {
		if u, err := url.Parse("//" + name); err != nil || name == "" || u.Host != name {
			return bad("dns", "give host names such as ps1.example.org", "%q", name)
		}
	}
	return nil
}

// Issue makes a fresh key and a certificate for it and writes them as an
// identity directory, replacing one that is there.
func (a *Authority) Issue(r Request, dir string) error {
	const op = "issue identity"
	if err := r.validate(); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return homeward.Wrap(err, op, r.String())
	}
	cert, err := a.sign(r, &key.PublicKey)
	if err != nil {
		return homeward.Wrap(err, op, r.String())
	}
	list, err := durable.ReadFile(a.fsys, filepath.Join(a.dir, revokedFile))
	if err != nil {
		return homeward.Wrap(err, op, r.String())
	}
	return homeward.Wrap(a.writeIdentity(dir, key, cert, list), op, r.String())
}

func (a *Authority) sign(r Request, public *ecdsa.PublicKey) ([]byte, error) {
	from, life := r.From, r.Lifetime
	if from.IsZero() {
		from = time.Now().Add(-clockSlack)
	}
	if life == 0 {
		life = DefaultLifetime
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"Homeward"}, CommonName: r.Name},
		NotBefore:             from,
		NotAfter:              from.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{r.URI()},
		DNSNames:              r.DNSNames,
		IPAddresses:           r.Addresses,
	}, a.cert, public, a.key)
}

// writeIdentity removes an older certificate first and writes the new one last:
// a directory with a certificate is complete.
func (a *Authority) writeIdentity(dir string, key *ecdsa.PrivateKey, cert, list []byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := a.fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := durable.Remove(a.fsys, filepath.Join(dir, certFile)); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
		perm fs.FileMode
	}{
		{caFile, encodePEM(certBlock, a.cert.Raw), 0o644},
		{revokedFile, list, 0o644},
		{keyFile, encodePEM(keyBlock, der), 0o600},
		{certFile, encodePEM(certBlock, cert), 0o644},
	} {
		if err := durable.WriteFile(a.fsys, filepath.Join(dir, f.name), f.data, f.perm); err != nil {
			return err
		}
	}
	return nil
}

// newSerial is 127 random bits, never zero.
func newSerial() *big.Int {
	id := homeward.NewID()
	id[0] = id[0]&0x7f | 0x40
	return new(big.Int).SetBytes(id[:])
}
