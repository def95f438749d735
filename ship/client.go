package ship

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/wire"
)

const (
	defaultConns  = 8
	answerTimeout = 60 * time.Second // from the last byte of a body to the answer
	maxAnswer     = 64 << 10         // bytes of an answer that are read
)

// ClientOptions are all optional.
type ClientOptions struct {
	// TLS authenticates both ends; it is used with TLS 1.3 or newer. Without it an
	// https URL is verified by the system's roots, and no certificate is shown.
	TLS *tls.Config
	// Watch is Identity.Watch of the identity that TLS is of: connections with a peer
	// that is revoked end. nil: they end by themselves.
	Watch func(*tls.Conn) (stop func())
	// Conns is the most connections that carry deltas at once; more puts wait for
	// one. Default 8. Waiting standings have connections of their own.
	Conns int
	// IdleTimeout is how long a put may go without a byte of the body moving;
	// default 30 s. It must be longer than a sink leaves a body unread.
	IdleTimeout time.Duration
}

// Client is a homeward.Sink at the far end of a link. Safe for concurrent use.
//
// Errors of the far side come back as they were there (package wire). Besides:
// Unavailable when it cannot be reached or hangs up, Timeout when it stops moving,
// Unauthentic when one end does not accept the other's certificate, and errors of
// the body with the kind they have.
type Client struct {
	base   string
	bad    error // what is wrong with the URL
	idle   time.Duration
	deltas *http.Transport
	asks   *http.Transport
}

// NewClient makes a client of the role at base ("https://host:port", or
// "https://name@host:port": then the peer's certificate must be of that name). It does
// not connect yet; a base that is no such URL shows as Invalid at every call.
func NewClient(base string, o ClientOptions) *Client {
	if o.Conns <= 0 {
		o.Conns = defaultConns
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = idleTimeout
	}
	c := &Client{base: strings.TrimRight(base, "/"), idle: o.IdleTimeout}
	u, err := url.Parse(base)
	if err == nil && u.User != nil {
		name := u.User.Username()
		u.User = nil
		c.base = strings.TrimRight(u.String(), "/")
		if name == "" || o.TLS == nil || u.Scheme != "https" {
			c.bad = homeward.Errorf("call peer", homeward.Invalid, fmt.Sprintf("URL %q", base), "give a name with https and certificates only", "nothing proves who is there")
		} else {
			o.TLS = pki.Named(o.TLS, name)
		}
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		c.bad = homeward.Errorf("call peer", homeward.Invalid, fmt.Sprintf("URL %q", base), "give one such as https://host:7443", "not the URL of a role")
	}
	c.deltas = newTransport(o)
	c.deltas.MaxConnsPerHost, c.deltas.MaxIdleConnsPerHost = o.Conns, o.Conns
	c.asks = newTransport(o)
	c.asks.MaxIdleConnsPerHost = 2
	return c
}

const dialTimeout = 10 * time.Second

func newTransport(o ClientOptions) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		IdleConnTimeout:        90 * time.Second, // less than the server's, so that the client hangs up first
		ExpectContinueTimeout:  15 * time.Second,
		MaxResponseHeaderBytes: 16 << 10,
		ReadBufferSize:         16 << 10,
		WriteBufferSize:        64 << 10,
		DisableCompression:     true,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if o.TLS == nil {
		return t
	}
	t.TLSClientConfig = o.TLS.Clone()
	t.TLSClientConfig.MinVersion = tls.VersionTLS13
	if o.Watch != nil {
		secure := &tls.Dialer{NetDialer: dialer, Config: t.TLSClientConfig}
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
			defer cancel()
			conn, err := secure.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			c := conn.(*tls.Conn) // as documented
			return watched{c, o.Watch(c)}, nil
		}
	}
	return t
}

// watched says when it is closed.
type watched struct {
	*tls.Conn
	stop func()
}

func (w watched) Close() error {
	w.stop()
	return w.Conn.Close()
}

// Close closes idle connections. Calls that run are not disturbed.
func (c *Client) Close() error {
	c.deltas.CloseIdleConnections()
	c.asks.CloseIdleConnections()
	return nil
}

// Put sends one delta; see homeward.Sink. The body is not sent before the far
// side asks for it. Body is not touched any more when Put has returned; if it is
// an io.Closer it is closed, which must end a read that is under way.
func (c *Client) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	var ack homeward.Ack
	const op = "send delta"
	if err := c.check(item); err != nil {
		return ack, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sent := newSentBody(body, c.idle, func() {
		cancel(homeward.Errorf(op, homeward.Timeout, c.base, "look at the link and at the far side", "nothing moved for %v", c.idle))
	}, func() {
		cancel(homeward.Errorf(op, homeward.Timeout, c.base, "look at the far side's disk", "no answer for %v", answerTimeout))
	})
	defer sent.stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+"/v1/items/"+string(item)+"/deltas", sent)
	if err != nil {
		return ack, homeward.Errorf(op, homeward.Internal, c.base, "", "%w", err)
	}
	req.Header.Set("Expect", "100-continue")
	req.Header.Set("Content-Type", "application/octet-stream")
	req.ContentLength = lengthOf(body)
	resp, err := c.deltas.RoundTrip(req)
	if err != nil {
		if failed := sent.failure(); failed != nil {
			return ack, failed
		}
		return ack, c.explain(ctx, op, err)
	}
	defer func() { _ = resp.Body.Close() }() // the answer is read, or an error tells more
	if err := wire.ReadDocument(resp, maxAnswer, &ack); err != nil {
		return homeward.Ack{}, c.ownFailure(ctx, op, err)
	}
	return ack, nil
}

// Standing asks how far the item is; see homeward.Sink. It fails when the far
// side is silent for longer than req.Wait and some.
func (c *Client) Standing(ctx context.Context, ask homeward.StandingRequest) (homeward.Standing, error) {
	var st homeward.Standing
	const op = "ask standing"
	if err := c.check(ask.Item); err != nil {
		return st, err
	}
	query := url.Values{}
	if !ask.Applied.IsZero() {
		query.Set("applied", ask.Applied.String())
	}
	if ask.Wait > 0 {
		query.Set("wait", ask.Wait.String())
	}
	patience := min(ask.Wait, maxWait) + c.idle
	silent := homeward.Errorf(op, homeward.Timeout, c.base, "look at the link and at the far side", "no answer for %v", patience)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, silent)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/items/"+string(ask.Item)+"/standing?"+query.Encode(), nil)
	if err != nil {
		return st, homeward.Errorf(op, homeward.Internal, c.base, "", "%w", err)
	}
	resp, err := c.asks.RoundTrip(req)
	if err != nil {
		return st, c.explain(ctx, op, err)
	}
	defer func() { _ = resp.Body.Close() }() // the answer is read, or an error tells more
	if err := wire.ReadDocument(resp, maxAnswer, &st); err != nil {
		return homeward.Standing{}, c.ownFailure(ctx, op, err)
	}
	return st, nil
}

func (c *Client) check(item homeward.ItemID) error {
	if c.bad != nil {
		return c.bad
	}
	return item.Validate()
}

// ownFailure is why we gave up, when it was us; else err.
func (c *Client) ownFailure(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return homeward.Wrap(context.Cause(ctx), op, c.base)
	}
	return err
}

func (c *Client) explain(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return homeward.Wrap(context.Cause(ctx), op, c.base)
	}
	var own *homeward.Error // of a tls.Config's own verification
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var alert *net.OpError
	switch {
	case errors.As(err, &own):
		return homeward.Wrap(own, op, c.base)
	case errors.As(err, &verify), errors.As(err, &authority):
		return homeward.Errorf(op, homeward.Unauthentic, c.base, "enrol both ends with the same vault", "its certificate is not accepted: %w", err)
	case errors.As(err, &alert) && alert.Op == "remote error":
		return homeward.Errorf(op, homeward.Unauthentic, c.base, "enrol both ends with the same vault", "it does not accept our certificate: %w", err)
	}
	return homeward.Errorf(op, homeward.Unavailable, c.base, "check that it runs and that the link is up", "%w", err)
}

// lengthOf is what remains of body if it can tell, else -1: sent in chunks.
func lengthOf(body io.Reader) int64 {
	if l, ok := body.(interface{ Len() int }); ok {
		return int64(l.Len())
	}
	return -1
}
