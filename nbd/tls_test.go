package nbd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// certificates are a CA and what it signed, for our side and, in dir, in the
// files that nbdkit and libnbd look for.
type certificates struct {
	dir            string
	pool           *x509.CertPool
	server, client tls.Certificate
}

func makeCertificates(t *testing.T) certificates {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := certificates{dir: t.TempDir(), pool: x509.NewCertPool()}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	write := func(file, kind string, der []byte) []byte {
		p := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		must(os.WriteFile(filepath.Join(c.dir, file), p, 0o600))
		return p
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	c.pool.AppendCertsFromPEM(write("ca-cert.pem", "CERTIFICATE", caDER))
	issue := func(name string, serial int64) tls.Certificate {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
		must(err)
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		must(err)
		pair, err := tls.X509KeyPair(write(name+"-cert.pem", "CERTIFICATE", der), write(name+"-key.pem", "PRIVATE KEY", keyDER))
		must(err)
		return pair
	}
	c.server, c.client = issue("server", 2), issue("client", 3)
	return c
}

func (c certificates) serverConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.server}, ClientCAs: c.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
}

func (c certificates) clientConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.client}, RootCAs: c.pool, MinVersion: tls.VersionTLS13}
}

// serveTCP is serve on loopback; it returns the address.
func serveTCP(t *testing.T, o ServerOptions, exports ...Export) string {
	t.Helper()
	s := NewServer(o)
	for _, e := range exports {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	return l.Addr().String()
}

func TestTLS_Required(t *testing.T) {
	certs := makeCertificates(t)
	path, d := image(t, 4<<20)
	addr := serveTCP(t, ServerOptions{TLS: certs.serverConfig(), RequireTLS: true}, Export{Name: "d", Disk: d})
	with := func(o *ClientOptions) { o.TLS = certs.clientConfig() }
	exercise(t, connect(t, "nbds://"+addr+"/d", with), 100)

	if _, err := Dial(t.Context(), ClientOptions{URI: "nbd://" + addr + "/d"}); homeward.KindOf(err) != homeward.Unauthentic {
		t.Errorf("in the clear: %v", err)
	}
	if _, err := toolErr(t, "nbdinfo", "--list", "nbd://"+addr+"/"); err == nil {
		t.Error("nbdinfo lists exports in the clear")
	}
	tool(t, "nbdcopy", "nbds://"+addr+"/d?tls-certificates="+certs.dir, filepath.Join(t.TempDir(), "copy"))
	tool(t, "nbdcopy", path, "nbds://"+addr+"/d?tls-certificates="+certs.dir)

	// A client without a certificate learns of it at the first word after TLS 1.3.
	c, err := Dial(t.Context(), ClientOptions{URI: "nbds://" + addr + "/d", TLS: &tls.Config{RootCAs: certs.pool, MinVersion: tls.VersionTLS13}})
	if err == nil {
		_ = c.Close()
		t.Error("a client without a certificate was admitted")
	}
}

// An export that admits by certificate is neither listed to others nor opened by them.
func TestTLS_Admit(t *testing.T) {
	certs := makeCertificates(t)
	only := func(name string) func(*tls.ConnectionState) error {
		return func(cs *tls.ConnectionState) error {
			if cs != nil && cs.PeerCertificates[0].Subject.CommonName == name {
				return nil
			}
			return homeward.Errorf("connect to export", homeward.Forbidden, "d", "ask for your own", "not yours")
		}
	}
	var open atomic.Int32
	watch := func(*tls.Conn) func() {
		open.Add(1)
		return func() { open.Add(-1) }
	}
	s := NewServer(ServerOptions{TLS: certs.serverConfig(), Watch: watch})
	for name, of := range map[string]string{"mine": "client", "other": "server"} {
		if err := s.Add(Export{Name: name, Disk: block.NewMemory(1 << 20), Admit: only(of)}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	addr := l.Addr().String()
	c, err := Dial(t.Context(), ClientOptions{URI: "nbds://" + addr + "/mine", TLS: certs.clientConfig(), Watch: watch})
	if err != nil {
		t.Fatal(err)
	}
	if n := open.Load(); n != 2 {
		t.Errorf("%d ends are watched", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for uri, config := range map[string]*tls.Config{"nbds://" + addr + "/other": certs.clientConfig(), "nbd://" + addr + "/mine": nil} {
		if c, err := Dial(t.Context(), ClientOptions{URI: uri, TLS: config, Watch: watch}); err == nil || !strings.Contains(err.Error(), "not yours") {
			t.Errorf("%s: %v", uri, err)
			if err == nil {
				_ = c.Close()
			}
		}
	}
	out := tool(t, "nbdinfo", "--list", "nbds://"+addr+"/?tls-certificates="+certs.dir)
	if !strings.Contains(out, "mine") || strings.Contains(out, "other") {
		t.Errorf("listed: %s", out)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d connections are still watched", n)
	}
}

func TestTLS_Optional(t *testing.T) {
	certs := makeCertificates(t)
	d := block.NewMemory(1 << 20)
	addr := serveTCP(t, ServerOptions{TLS: certs.serverConfig()}, Export{Name: "d", Disk: d})
	exercise(t, connect(t, "nbd://"+addr+"/d"), 20)
	exercise(t, connect(t, "nbds://"+addr+"/d", func(o *ClientOptions) { o.TLS = certs.clientConfig() }), 20)
	plainAddr := serveTCP(t, ServerOptions{}, Export{Name: "d", Disk: d})
	if _, err := Dial(t.Context(), ClientOptions{URI: "nbds://" + plainAddr + "/d", TLS: certs.clientConfig()}); homeward.KindOf(err) != homeward.Unauthentic {
		t.Errorf("server without TLS: %v", err)
	}
}

func TestTLS_ClientAgainstNbdkit(t *testing.T) {
	certs := makeCertificates(t)
	socket := filepath.Join(t.TempDir(), "n")
	background(t, "nbdkit", socket, "-f", "-U", socket, "--tls=require", "--tls-certificates="+certs.dir, "--tls-verify-peer", "memory", "4M")
	uri := URI{Network: "unix", Address: socket, TLS: true}.String()
	exercise(t, connect(t, uri, func(o *ClientOptions) {
		o.TLS = certs.clientConfig()
		o.TLS.ServerName = "localhost"
	}), 60)
}

// TestTLS_InjectedPlaintext: what follows STARTTLS in the clear must not be taken
// as said under TLS.
func TestTLS_InjectedPlaintext(t *testing.T) {
	certs := makeCertificates(t)
	r := serve(t, ServerOptions{TLS: certs.serverConfig()}, Export{Name: "d", Disk: block.NewMemory(512)})
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	p := &plain{t, conn}
	p.read(18)
	b := be.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes)
	for _, opt := range []uint32{optStartTLS, optList} {
		b = be.AppendUint64(b, magicOption)
		b = be.AppendUint32(b, opt)
		b = be.AppendUint32(b, 0)
	}
	p.write(b)
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("the server answered %d bytes", n)
	}
}
