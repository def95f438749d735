package api

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// ClientOptions say which vault, and how to know it.
type ClientOptions struct {
	URL   string // "https://vault:8440", or "unix:///run/homeward/vault.sock" at the vault itself
	Token string // secret of an API token; may be empty over a unix socket
	// CA is the path of the authorities' certificates (PEM) that the vault's
	// certificate must come from; empty and no Fingerprint: those of the system.
	CA string
	// Fingerprint is the SHA-256, in hex (colons allowed), of the vault's certificate
	// or of its authority's, and then takes the place of CA.
	Fingerprint string
	Timeout     time.Duration // of one call; 0: 30 s. Watch has none
	Log         *slog.Logger  // says when a call is made again; nil: nothing
}

const defaultTimeout = 30 * time.Second

// Client is a vault that is reached over HTTPS. Errors are those of the vault, with
// the same kind and remedy; Unavailable also when it cannot be reached, Unauthentic
// also when it is not the one that was pinned. Reads are made again, a few times,
// while the vault is unavailable; changes never are.
//
// Safe for concurrent use. Close it when done.
type Client struct {
	base    string // URL without the trailing slash
	token   string
	timeout time.Duration
	log     *slog.Logger
	http    *http.Client
	wait    func(ctx context.Context, attempt int) error // before the next attempt; for tests
}

var _ vault.Vault = (*Client)(nil)

// NewClient checks the options; it does not connect. Invalid names the option.
func NewClient(o ClientOptions) (*Client, error) {
	const op = "make client"
	u, err := url.Parse(o.URL)
	if err != nil || u.RawQuery != "" || u.User != nil {
		return nil, homeward.Errorf(op, homeward.Invalid, "URL", "give https://host:port of the vault, or unix:///path of its socket", "%q", o.URL)
	}
	if strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, homeward.Errorf(op, homeward.Invalid, "token", "give the secret as it was told, without spaces or line breaks", "it holds characters that no token has")
	}
	c := &Client{token: o.Token, timeout: o.Timeout, log: o.Log, wait: backOff}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
	switch {
	case u.Scheme == "https" && u.Host != "":
		c.base = strings.TrimSuffix(o.URL, "/")
		if transport.TLSClientConfig, err = clientTLS(o, u.Hostname()); err != nil {
			return nil, err
		}
		transport.Proxy = http.ProxyFromEnvironment
	case u.Scheme == "unix" && u.Path != "":
		c.base = "http://vault"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", u.Path)
		}
	default:
		return nil, homeward.Errorf(op, homeward.Invalid, "URL", "give https://host:port of the vault, or unix:///path of its socket", "%q", o.URL)
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// Close drops idle connections. Calls under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func clientTLS(o ClientOptions, host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	switch {
	case o.Fingerprint != "":
		pin, err := hex.DecodeString(strings.ReplaceAll(o.Fingerprint, ":", ""))
		if err != nil || len(pin) != sha256.Size {
			return nil, homeward.Errorf("make client", homeward.Invalid, "fingerprint", "give the 64 hex digits that the vault printed", "%q", o.Fingerprint)
		}
		conf.InsecureSkipVerify = true // the pin decides:
		conf.VerifyConnection = func(cs tls.ConnectionState) error { return verifyPin(cs, pki.Fingerprint(pin)) }
	case o.CA != "":
		pem, err := durable.ReadFile(durable.OS(), o.CA)
		if err != nil {
			return nil, homeward.Wrap(err, "read authorities", o.CA)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, homeward.Errorf("read authorities", homeward.Invalid, o.CA, "give the ca.pem of the vault", "no certificate in it")
		}
		conf.InsecureSkipVerify = true // a vault's own certificate names its role, not always its host
		conf.VerifyConnection = func(cs tls.ConnectionState) error { return verifyFrom(cs, roots, host) }
	}
	return conf, nil
}

// verifyPin accepts the pinned certificate itself, or one that the pinned authority
// issued to a vault.
func verifyPin(cs tls.ConnectionState, pin pki.Fingerprint) error {
	if sha256.Sum256(cs.PeerCertificates[0].Raw) == pin {
		return nil
	}
	return pki.PinnedTLS(pin, pki.Vault).VerifyConnection(cs)
}

// verifyFrom accepts a certificate of these authorities that is a vault's, or else
// names the host. Nodes have certificates of the same authority: theirs never do.
func verifyFrom(cs tls.ConnectionState, roots *x509.CertPool, host string) error {
	refuse := func(format string, args ...any) error {
		return homeward.Errorf("authenticate vault", homeward.Unauthentic, host, "check the URL, and that --ca is the authority of this vault", format, args...)
	}
	leaf := cs.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: between}
	peer, err := pki.PeerOf(&cs)
	if err != nil {
		opts.DNSName = host
	} else if peer.Role != pki.Vault {
		return refuse("%s answered where the vault was expected", peer)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return refuse("%w", err)
	}
	return nil
}

// explain makes sense of a request that got no answer.
func (c *Client) explain(ctx context.Context, err error) error {
	const op = "call vault"
	var ours *homeward.Error
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return homeward.Errorf(op, homeward.Canceled, c.base, "", "%w", err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return homeward.Errorf(op, homeward.Timeout, c.base, "look whether the vault is overloaded, or give a longer --timeout", "%w", err)
	case errors.As(err, &ours):
		return homeward.Wrap(ours, op, c.base)
	case errors.As(err, &unknown), errors.As(err, &invalid), errors.As(err, &name):
		return homeward.Errorf(op, homeward.Unauthentic, c.base, "give the vault's authority with --ca, or its fingerprint", "%w", err)
	}
	return homeward.Errorf(op, homeward.Unavailable, c.base, "check the address, and that the vault is running", "%w", err)
}
