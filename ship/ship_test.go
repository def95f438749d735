package ship_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/ship"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves h on a port of its own until the test ends, and returns the address.
func serve(t testing.TB, h http.Handler, tlsConfig *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ship.Serve(ctx, ship.NewServer(h, tlsConfig, slog.New(slog.DiscardHandler)), l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t testing.TB, url string, o ship.ClientOptions) *ship.Client {
	t.Helper()
	c := ship.NewClient(url, o)
	t.Cleanup(func() { c.Close() })
	return c
}

// overHTTP puts client and handler between the suite and sink.
func overHTTP(t testing.TB, sink homeward.Sink) *ship.Client {
	return dial(t, "http://"+serve(t, ship.NewHandler(sink, nil), nil), ship.ClientOptions{})
}

func prepared(t testing.TB, leg shiptest.Leg) *shiptest.Twin {
	t.Helper()
	w := shiptest.NewTwin()
	w.Patience = time.Second
	if err := w.Prepare(leg.Machine.Item, leg.Generation, leg.Base); err != nil {
		t.Fatal(err)
	}
	return w
}

func newLeg(t testing.TB) (shiptest.Leg, *shiptest.Source) {
	g := homeward.Generation{Number: 1, ID: homeward.NewID()}
	s := shiptest.NewSource("web01", homeward.Position{}.Base(g), shiptest.Seed(t))
	return shiptest.Leg{Machine: s.Machine, Generation: g, Base: s.At()}, s
}

func TestClient_Conformance(t *testing.T) {
	shiptest.Run(t, func(t *testing.T, leg shiptest.Leg) shiptest.Subject {
		w := prepared(t, leg)
		s := shiptest.TwinSubject(w, leg)
		s.Sink = overHTTP(t, w)
		return s
	})
}

// sinkFunc answers every Put itself.
type sinkFunc func(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error)

func (f sinkFunc) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	return f(ctx, item, body)
}

func (f sinkFunc) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	_, err := f(ctx, req.Item, nil)
	return homeward.Standing{}, err
}

func TestClient_EveryKindComesBack(t *testing.T) {
	at := homeward.Position{Generation: homeward.Generation{Number: 3, ID: homeward.NewID()}, Sequence: 5, Cut: homeward.NewID()}
	for kind := range homeward.Table {
		sent := homeward.Errorf("apply delta", kind, "item web01", "do this", "%w and %w",
			&homeward.PositionError{True: at}, &homeward.FencedError{InForce: at.Generation})
		c := overHTTP(t, sinkFunc(func(context.Context, homeward.ItemID, io.Reader) (homeward.Ack, error) {
			return homeward.Ack{}, sent
		}))
		_, put := c.Put(t.Context(), "web01", strings.NewReader("x"))
		_, standing := c.Standing(t.Context(), homeward.StandingRequest{Item: "web01"})
		for _, got := range []error{put, standing} {
			var position *homeward.PositionError
			var fenced *homeward.FencedError
			if homeward.KindOf(got) != kind || homeward.RemedyOf(got) != "do this" || got.Error() != sent.Error() ||
				!errors.As(got, &position) || position.True != at || !errors.As(got, &fenced) || fenced.InForce != at.Generation {
				t.Errorf("%s came back as %v (%s)", kind, got, homeward.KindOf(got))
			}
		}
	}
}

// A refused delta costs no body: the sink refuses before it reads, and the
// client has not sent a byte of it.
func TestClient_RefusedUnread(t *testing.T) {
	c := overHTTP(t, sinkFunc(func(context.Context, homeward.ItemID, io.Reader) (homeward.Ack, error) {
		return homeward.Ack{}, homeward.Errorf("put", homeward.Busy, "", "wait", "full")
	}))
	body := &countingReader{r: strings.NewReader(strings.Repeat("x", 1<<20))}
	if _, err := c.Put(t.Context(), "web01", body); homeward.KindOf(err) != homeward.Busy {
		t.Fatalf("put: %v", err)
	}
	if body.n != 0 {
		t.Errorf("%d bytes of a refused body were sent", body.n)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestHandler_Authorize(t *testing.T) {
	leg, source := newLeg(t)
	w := prepared(t, leg)
	h := ship.NewHandler(w, func(r *http.Request, item homeward.ItemID) error {
		return homeward.Errorf("authorize", homeward.Forbidden, "item "+string(item), "use the agent's certificate", "not yours")
	})
	c := dial(t, "http://"+serve(t, h, nil), ship.ClientOptions{})
	if _, err := c.Put(t.Context(), "web01", bytes.NewReader(source.Next(t).Bytes)); homeward.KindOf(err) != homeward.Forbidden {
		t.Errorf("put: %v", err)
	}
	if len(w.Applied("web01")) != 0 {
		t.Error("a delta of a stranger was applied")
	}
}

func TestHandler_BadRequests(t *testing.T) {
	leg, _ := newLeg(t)
	h := ship.NewHandler(prepared(t, leg), nil)
	for path, status := range map[string]int{
		"/v1/items/web01/standing":              200,
		"/v1/items/web01/standing?wait=soon":    400,
		"/v1/items/web01/standing?applied=here": 400,
		"/v1/items/a.b/standing":                400,
		"/v1/items/nobody/standing":             404,
		"/v1/items/web01/deltas":                405,
		"/":                                     404,
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if rec.Code != status {
			t.Errorf("%s: %d %s, want %d", path, rec.Code, rec.Body, status)
		}
	}
}

func TestClient_BadURL(t *testing.T) {
	for _, url := range []string{"", "host:1", "ftp://host", "https://", "http://h?x=1", "\x00"} {
		if _, err := ship.NewClient(url, ship.ClientOptions{}).Put(t.Context(), "web01", strings.NewReader("")); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestClient_NobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	_, err = dial(t, url, ship.ClientOptions{}).Put(t.Context(), "web01", strings.NewReader("x"))
	if homeward.KindOf(err) != homeward.Unavailable || homeward.RemedyOf(err) == "" {
		t.Errorf("put: %v", err)
	}
}

// A peer that takes the connection and then nothing is an error after the idle
// timeout, with Put and with Standing.
func TestClient_PeerHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody ever accepts: the kernel completes the handshake
	c := dial(t, "http://"+l.Addr().String(), ship.ClientOptions{IdleTimeout: 100 * time.Millisecond})
	if _, err := c.Put(t.Context(), "web01", strings.NewReader("x")); homeward.KindOf(err) != homeward.Timeout {
		t.Errorf("put: %v", err)
	}
	if _, err := c.Standing(t.Context(), homeward.StandingRequest{Item: "web01"}); homeward.KindOf(err) != homeward.Timeout {
		t.Errorf("standing: %v", err)
	}
}

// The client leaves a body alone once Put has returned, whatever the transport
// still wants of it.
func TestClient_BodyIsLeftAlone(t *testing.T) {
	c := overHTTP(t, sinkFunc(func(_ context.Context, _ homeward.ItemID, body io.Reader) (homeward.Ack, error) {
		_, err := io.ReadFull(body, make([]byte, 10))
		return homeward.Ack{}, errors.Join(err, homeward.Errorf("put", homeward.Conflict, "", "", "refused early"))
	}))
	in, out := io.Pipe()
	go out.Write(make([]byte, 10))
	_, err := c.Put(t.Context(), "web01", in)
	if err == nil {
		t.Fatal("no error")
	}
	if _, err := out.Write([]byte{1}); err != io.ErrClosedPipe {
		t.Errorf("the body was read after Put: %v", err)
	}
}

func TestClient_BodyErrorKeepsItsKind(t *testing.T) {
	leg, source := newLeg(t)
	c := overHTTP(t, prepared(t, leg))
	fault := homeward.Errorf("read", homeward.IO, "disk", "replace it", "medium error")
	half := source.Next(t).Bytes
	_, err := c.Put(t.Context(), "web01", io.MultiReader(bytes.NewReader(half[:len(half)/2]), iotest.ErrReader(fault)))
	if !errors.Is(err, fault) {
		t.Errorf("got %v", err)
	}
}

func identity(t testing.TB, a *pki.Authority, fs *powerloss.FS, r pki.Request, dir string) *pki.Identity {
	t.Helper()
	if err := a.Issue(r, dir); err != nil {
		t.Fatal(err)
	}
	id, err := pki.LoadIdentity(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestMutualTLS(t *testing.T) {
	fs := powerloss.New()
	a, err := pki.CreateAuthority(fs, "/ca", "test")
	if err != nil {
		t.Fatal(err)
	}
	target := identity(t, a, fs, pki.Request{Peer: pki.Peer{Role: pki.MasterTarget, Name: "target"}}, "/target")
	relay := identity(t, a, fs, pki.Request{Peer: pki.Peer{Role: pki.ProcessServer, Name: "relay"}}, "/relay")
	other, err := pki.CreateAuthority(fs, "/other", "other")
	if err != nil {
		t.Fatal(err)
	}
	stranger := identity(t, other, fs, pki.Request{Peer: pki.Peer{Role: pki.ProcessServer, Name: "relay"}}, "/stranger")

	leg, source := newLeg(t)
	url := "https://" + serve(t, ship.NewHandler(prepared(t, leg), nil), target.ServerTLS(pki.ProcessServer))
	good := dial(t, url, ship.ClientOptions{TLS: relay.ClientTLS(pki.MasterTarget)})
	if ack, err := good.Put(t.Context(), "web01", bytes.NewReader(source.Next(t).Bytes)); err != nil || !ack.Applied {
		t.Errorf("put: %+v %v", ack, err)
	}
	at := strings.TrimPrefix(url, "https://")
	named := dial(t, "https://target@"+at, ship.ClientOptions{TLS: relay.ClientTLS(pki.MasterTarget)})
	if _, err := named.Standing(t.Context(), homeward.StandingRequest{Item: "web01"}); err != nil {
		t.Errorf("the peer of that name: %v", err)
	}
	impostor := dial(t, "https://other@"+at, ship.ClientOptions{TLS: relay.ClientTLS(pki.MasterTarget)})
	if _, err := impostor.Put(t.Context(), "web01", bytes.NewReader(source.Next(t).Bytes)); homeward.KindOf(err) != homeward.Forbidden || !strings.Contains(err.Error(), "other is expected") {
		t.Errorf("a peer of another name: %v", err)
	}
	unproven := dial(t, "http://target@"+at, ship.ClientOptions{})
	if _, err := unproven.Standing(t.Context(), homeward.StandingRequest{Item: "web01"}); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("a name that nothing proves: %v", err)
	}
	wrongRole := dial(t, url, ship.ClientOptions{TLS: relay.ClientTLS(pki.Agent)})
	if _, err := wrongRole.Standing(t.Context(), homeward.StandingRequest{Item: "web01"}); homeward.KindOf(err) != homeward.Forbidden {
		t.Errorf("a peer of another role: %v", err)
	}
	for name, config := range map[string]*tls.Config{
		"other authority": stranger.ClientTLS(pki.MasterTarget),
		"no certificate":  {InsecureSkipVerify: true},
		"system roots":    nil,
	} {
		c := dial(t, url, ship.ClientOptions{TLS: config})
		if _, err := c.Standing(t.Context(), homeward.StandingRequest{Item: "web01"}); homeward.KindOf(err) != homeward.Unauthentic {
			t.Errorf("%s: %v (kind %q)", name, err, homeward.KindOf(err))
		}
	}
}

// A revoked peer's connection is not used again: the list that says so ends it.
func TestRevokedPeer_OpenConnectionsEnd(t *testing.T) {
	fs := powerloss.New()
	a, err := pki.CreateAuthority(fs, "/ca", "test")
	if err != nil {
		t.Fatal(err)
	}
	target := identity(t, a, fs, pki.Request{Peer: pki.Peer{Role: pki.MasterTarget, Name: "target"}}, "/target")
	relay := identity(t, a, fs, pki.Request{Peer: pki.Peer{Role: pki.ProcessServer, Name: "relay"}}, "/relay")
	leg, _ := newLeg(t)
	url := "https://target@" + serve(t, ship.NewHandler(prepared(t, leg), nil), target.ServerTLS(pki.ProcessServer))
	watched := make(chan *tls.Conn, 8)
	c := dial(t, url, ship.ClientOptions{TLS: relay.ClientTLS(pki.MasterTarget), Watch: func(conn *tls.Conn) func() {
		watched <- conn
		return relay.Watch(conn)
	}})
	ask := func() error {
		_, err := c.Standing(t.Context(), homeward.StandingRequest{Item: "web01"})
		return err
	}
	for range 2 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if len(watched) != 1 {
		t.Fatalf("%d connections", len(watched))
	}
	if err := a.Revoke("/target"); err != nil {
		t.Fatal(err)
	}
	list, err := a.Revocations()
	if err == nil {
		err = relay.TakeRevocations(list)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (<-watched).NetConn().Write(nil); err == nil {
		t.Error("the connection is open")
	}
	if err := ask(); homeward.KindOf(err) != homeward.Unauthentic || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked peer is asked: %v", err)
	}
}

// The package document says what to type; this types it.
func TestByHand(t *testing.T) {
	leg, source := newLeg(t)
	url := "http://" + serve(t, ship.NewHandler(prepared(t, leg), nil), nil)
	d := source.Next(t)
	file := filepath.Join(t.TempDir(), "some.delta")
	if err := os.WriteFile(file, d.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("curl", "-sS", "-w", "%{http_code}", "-H", "Expect: 100-continue", "-T", file, url+"/v1/items/web01/deltas").CombinedOutput()
	if err != nil || !strings.Contains(string(out), d.Position.String()) || !strings.HasSuffix(string(out), "200") {
		t.Errorf("curl (is it installed?): %v\n%s", err, out)
	}
	out, err = exec.Command("curl", "-sS", url+"/v1/items/web01/standing?wait=1s&applied="+d.Position.String()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"known":true`) {
		t.Errorf("curl: %v\n%s", err, out)
	}
}
