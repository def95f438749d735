package member

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/wire"
)

const (
	defaultTimeout = 5 * time.Second
	maxTimeout     = 30 * time.Second
	roundTrips     = 5  // of which the median counts
	maxProbes      = 4  // at once: they take the bandwidth they measure
	poolBytes      = 64 // KiB of random data that is sent over and over
)

// Probe implements homeward.Member: it opens one connection, sends five empty
// requests on it and takes the median, then req.Bytes of random data. At most four
// probes run at once; more are Busy. Errors: Invalid for a bad request.
func (m *Member) Probe(ctx context.Context, req homeward.ProbeRequest) (homeward.ProbeReport, error) {
	if err := m.check(&req); err != nil {
		return homeward.ProbeReport{}, err
	}
	select {
	case m.probes <- struct{}{}:
		defer func() { <-m.probes }()
	default:
		return homeward.ProbeReport{}, homeward.Errorf("probe", homeward.Busy, req.Peer, "probe fewer peers at once", "%d probes run already", maxProbes)
	}
	bounded, cancel := context.WithTimeout(ctx, req.Timeout)
	defer cancel()
	r := homeward.ProbeReport{Peer: req.Peer, URL: req.URL, At: m.config.Now().UTC()}
	err := m.measure(bounded, req, &r)
	if ctx.Err() != nil { // the caller gave up: nothing is known
		return homeward.ProbeReport{}, ctx.Err()
	}
	if err != nil && r.Why == "" {
		r.Why = pki.Explain(err, "probe", req.URL).Error()
	}
	return r, nil
}

// check names what is wrong and fills in defaults.
func (m *Member) check(req *homeward.ProbeRequest) error {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf("probe", homeward.Invalid, field, fix, format, args...)
	}
	u, err := url.Parse(req.URL)
	switch {
	case m.config.TLS == nil:
		return homeward.Errorf("probe", homeward.Unsupported, req.Peer, "probe from a node with an identity", "this node has none")
	case err != nil || u.Scheme != "https" || u.Host == "":
		return bad("url", "give the peer's data face, such as https://host:7443", "%q", req.URL)
	case req.Bytes < 0 || req.Bytes > MaxProbe:
		return bad("bytes", "give 0 to 16 MiB", "%d", req.Bytes)
	case req.Timeout < 0 || req.Timeout > maxTimeout:
		return bad("timeout", "give at most 30s", "%v", req.Timeout)
	}
	if req.Timeout == 0 {
		req.Timeout = defaultTimeout
	}
	return nil
}

// measure fills in what it finds, as far as it comes.
func (m *Member) measure(ctx context.Context, req homeward.ProbeRequest, r *homeward.ProbeReport) error {
	t := &http.Transport{TLSClientConfig: pki.Named(m.config.TLS, req.Peer).Clone(), MaxConnsPerHost: 1, DisableCompression: true, Protocols: new(http.Protocols)}
	t.TLSClientConfig.MinVersion = tls.VersionTLS13
	t.Protocols.SetHTTP1(true)
	defer t.CloseIdleConnections()
	face := req.URL + facePath
	_, err := post(ctx, t, face, nil, 0) // opens the connection
	var refused refusal
	if r.Reachable = err == nil || errors.As(err, &refused); err != nil {
		if r.Reachable { // who answers is there, such as a peer of the version before, which takes no probes
			return unmeasured(r, "round-trip time", err)
		}
		return err
	}
	var took []time.Duration
	for range roundTrips {
		d, err := post(ctx, t, face, nil, 0)
		if err != nil {
			return unmeasured(r, "round-trip time", err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	r.RTT = took[roundTrips/2]
	if req.Bytes == 0 {
		return nil
	}
	d, err := post(ctx, t, face, io.LimitReader(newNoise(), req.Bytes), req.Bytes)
	if err != nil {
		return unmeasured(r, "throughput", err)
	}
	if d -= r.RTT; d < time.Microsecond { // the answer's way is no part of the sending
		d = time.Microsecond
	}
	r.Rate = float64(req.Bytes) / d.Seconds()
	return nil
}

// unmeasured says what is missing about a peer that was reached.
func unmeasured(r *homeward.ProbeReport, what string, err error) error {
	r.Why = what + " not measured: " + err.Error()
	return err
}

// refusal is an error that the peer answered.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// post sends one request and tells how long it took.
func post(ctx context.Context, t *http.Transport, face string, body io.Reader, n int64) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, face, body)
	if err != nil {
		return 0, err
	}
	req.ContentLength = n
	began := time.Now()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // empty, or read by ReadProblem
	if resp.StatusCode >= 400 {
		return 0, refusal{wire.ReadProblem(resp)}
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return time.Since(began), err
}

// noise is random data without end: nothing on the way can make it shorter.
type noise struct {
	pool []byte
	rest *bytes.Reader
}

func newNoise() *noise {
	pool := make([]byte, poolBytes<<10)
	_, _ = rand.Read(pool) // never fails
	return &noise{pool: pool, rest: bytes.NewReader(pool)}
}

func (n *noise) Read(p []byte) (int, error) {
	if n.rest.Len() == 0 {
		n.rest.Reset(n.pool)
	}
	return n.rest.Read(p)
}
