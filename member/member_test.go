package member

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(t *testing.T, a *pki.Authority, p pki.Peer) *pki.Identity {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "identity")
	if err := a.Issue(pki.Request{Peer: p}, dir); err != nil {
		t.Fatal(err)
	}
	id, err := pki.LoadIdentity(durable.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func authority(t *testing.T) *pki.Authority {
	t.Helper()
	a, err := pki.CreateAuthority(durable.OS(), filepath.Join(t.TempDir(), "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var (
	agent1  = pki.Peer{Role: pki.Agent, Name: "a1"}
	target1 = pki.Peer{Role: pki.MasterTarget, Name: "m1"}
)

// face serves probes as a data face does.
func face(t *testing.T, id *pki.Identity, h http.Handler) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, TLSConfig: id.ServerTLS(pki.Roles()...), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { s.Close(); <-done })
	return "https://" + ln.Addr().String()
}

func TestProbe_OfAFace(t *testing.T) {
	a := authority(t)
	url := face(t, identity(t, a, target1), Face(http.NotFoundHandler()))
	m := New(Config{TLS: identity(t, a, agent1).ClientTLS(pki.MasterTarget, pki.ProcessServer)})
	r, err := m.Probe(t.Context(), homeward.ProbeRequest{Peer: "m1", URL: url, Bytes: MaxProbe, Timeout: maxTimeout})
	if err != nil || !r.Reachable || r.Why != "" || r.RTT <= 0 || r.Rate <= 0 || r.Peer != "m1" || r.URL != url || r.At.IsZero() {
		t.Fatalf("%+v: %v", r, err)
	}
	r, err = m.Probe(t.Context(), homeward.ProbeRequest{Peer: "m1", URL: url})
	if err != nil || !r.Reachable || r.Rate != 0 {
		t.Errorf("without bytes: %+v: %v", r, err)
	}
	r, err = m.Probe(t.Context(), homeward.ProbeRequest{Peer: "m2", URL: url})
	if err != nil || r.Reachable || !strings.Contains(r.Why, "m2 is expected") {
		t.Errorf("another node answers in its place: %+v: %v", r, err)
	}
}

// A peer of the version before takes no probes; that it answers is known.
func TestProbe_OfAnOlderPeer(t *testing.T) {
	a := authority(t)
	url := face(t, identity(t, a, target1), http.NotFoundHandler())
	m := New(Config{TLS: identity(t, a, agent1).ClientTLS(pki.MasterTarget)})
	r, err := m.Probe(t.Context(), homeward.ProbeRequest{URL: url, Bytes: 1})
	if err != nil || !r.Reachable || r.RTT != 0 || r.Rate != 0 || !strings.Contains(r.Why, "404") {
		t.Errorf("%+v: %v", r, err)
	}
}

// Whatever keeps a probe from its peer is an answer that says why.
func TestProbe_Unreachable(t *testing.T) {
	a, foreign := authority(t), authority(t)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	m := New(Config{TLS: identity(t, a, agent1).ClientTLS(pki.MasterTarget)})
	for name, c := range map[string]struct{ url, why string }{
		"nobody listens":    {"https://" + gone.Addr().String(), "refused"},
		"nobody answers":    {"https://" + silent.Addr().String(), "deadline"},
		"another authority": {face(t, identity(t, foreign, target1), Face(http.NotFoundHandler())), "authority"},
		"another role":      {face(t, identity(t, a, agent1), Face(http.NotFoundHandler())), "its role may not do this"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := m.Probe(t.Context(), homeward.ProbeRequest{URL: c.url, Bytes: 1, Timeout: 2 * time.Second})
			if err != nil || r.Reachable || !strings.Contains(r.Why, c.why) {
				t.Errorf("%+v: %v", r, err)
			}
		})
	}
}

func TestProbe_BadRequests(t *testing.T) {
	m := New(Config{TLS: identity(t, authority(t), agent1).ClientTLS(pki.MasterTarget)})
	for field, req := range map[string]homeward.ProbeRequest{
		"url":     {URL: "http://host:1"},
		"bytes":   {URL: "https://host:1", Bytes: MaxProbe + 1},
		"timeout": {URL: "https://host:1", Timeout: time.Minute},
	} {
		_, err := m.Probe(t.Context(), req)
		if homeward.KindOf(err) != homeward.Invalid || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	_, err := New(Config{}).Probe(t.Context(), homeward.ProbeRequest{URL: "https://host:1"})
	if homeward.KindOf(err) != homeward.Unsupported {
		t.Errorf("without identity: %v", err)
	}
	for range maxProbes {
		m.probes <- struct{}{}
	}
	_, err = m.Probe(t.Context(), homeward.ProbeRequest{URL: "https://host:1"})
	if homeward.KindOf(err) != homeward.Busy {
		t.Errorf("one too many: %v", err)
	}
	<-m.probes
	given, giveUp := context.WithCancel(t.Context())
	giveUp()
	_, err = m.Probe(given, homeward.ProbeRequest{URL: "https://127.0.0.1:1"})
	if homeward.KindOf(err) != homeward.Canceled {
		t.Errorf("given up: %v", err)
	}
}

func TestFace(t *testing.T) {
	h := Face(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	serve := func(method, path string, body io.Reader) *http.Response {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, body))
		return w.Result()
	}
	if r := serve(http.MethodPost, "/probe", strings.NewReader("x")); r.StatusCode != http.StatusNoContent {
		t.Errorf("probe: %s", r.Status)
	}
	for _, other := range []string{"/", "/v1/items/a/deltas"} {
		if r := serve(http.MethodPost, other, nil); r.StatusCode != http.StatusTeapot {
			t.Errorf("%s: %s", other, r.Status)
		}
	}
	large := make([]byte, MaxProbe+1)
	for _, body := range []io.Reader{strings.NewReader(string(large)), io.MultiReader(strings.NewReader(string(large)))} {
		r := serve(http.MethodPost, "/probe", body)
		if err := wire.ReadProblem(r); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("too long: %s %v", r.Status, err)
		}
	}
}

func TestHealth(t *testing.T) {
	at := time.Unix(5, 0).UTC()
	m := New(Config{Now: func() time.Time { return at }, Tell: func(req homeward.HealthRequest, r *homeward.HealthReport) {
		r.Disks = 3
		if req.Generations {
			r.Generations = map[homeward.ItemID]homeward.Generation{"a": {Number: 2}}
		}
	}})
	r, err := m.Health(t.Context(), homeward.HealthRequest{})
	if err != nil || r.At != at || r.OSFamily != runtime.GOOS || r.Disks != 3 || r.Generations != nil {
		t.Errorf("%+v: %v", r, err)
	}
	if r, _ = m.Health(t.Context(), homeward.HealthRequest{Generations: true}); r.Generations["a"].Number != 2 {
		t.Errorf("%+v", r)
	}
}

// A machine is named as its firmware does; where there is none, nothing is made up.
func TestProductUUID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "product_uuid")
	if got := productUUID(path); got != "" {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(path, []byte("4C4C4544-0051\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := productUUID(path); got != "4c4c4544-0051" {
		t.Errorf("%q", got)
	}
}

func TestOSVersion(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n": "Debian GNU/Linux 12",
		"# nothing\nNAME=Arch\nVERSION_ID='7'\n":                           "Arch 7",
		"":                                                                 "",
	} {
		path := filepath.Join(dir, "os-release")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := osVersion(path); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := osVersion(filepath.Join(dir, "none")); got != "" {
		t.Errorf("%q", got)
	}
}

const table = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 8:1 / /mnt/with\040blank ro,relatime shared:1 - vfat /dev/sda1 rw
31 27 8:2 / /mnt/old rw - ext4 /dev/sda2 rw
32 27 8:3 / /mnt/old rw - xfs /dev/sda3 ro
33 27 0:25 / /dev/shm rw - tmpfs tmpfs rw
34 27 0:26 / /mnt/far rw - nfs4 server:/export rw
no line of the kind
`

func TestVolumes(t *testing.T) {
	mounts, err := parseMounts(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "points"), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "points"), 0o700); err != nil {
		t.Fatal(err)
	}
	list := volumes(mounts, []Declared{{Path: link, Default: true}, {Path: filepath.Join(dir, "absent")}},
		[]Use{{Path: dir, As: UseCache}, {Path: "/mnt/old/disks/web.raw", As: UseReplica}, {Path: link, As: UseRetention}})
	found := map[string]homeward.Volume{}
	var paths []string
	for _, v := range list {
		found[v.Path] = v
		paths = append(paths, v.Path)
	}
	want := []string{"/", "/mnt/far", "/mnt/old", "/mnt/with blank", filepath.Join(dir, "absent"), link}
	slices.Sort(want)
	slices.Sort(paths)
	if !slices.Equal(paths, want) {
		t.Fatalf("volumes %q, want %q", paths, want)
	}
	uses := func(path string, want ...string) {
		t.Helper()
		if v := found[path]; !slices.Equal(v.Uses, want) {
			t.Errorf("%s is used as %q, want %q", path, v.Uses, want)
		}
	}
	uses("/", UseCache, UseInstallation, UseSystem)
	uses("/mnt/old", UseReplica)
	uses(link, UseRetention)
	uses("/mnt/far")
	if v := found["/"]; v.Size <= 0 || v.Free <= 0 || v.FSType != "ext4" || v.Device != "/dev/vda" || v.Default || len(v.Unknown) > 0 {
		t.Errorf("%+v", v)
	}
	if v := found[link]; !v.Default || v.Size <= 0 || v.FSType != "ext4" {
		t.Errorf("%+v", v)
	}
	if v := found["/mnt/old"]; !v.ReadOnly || v.FSType != "xfs" {
		t.Errorf("%+v", v)
	}
	if v := found["/mnt/with blank"]; !v.ReadOnly || v.FSType != "vfat" {
		t.Errorf("%+v", v)
	}
	for _, path := range []string{"/mnt/far", filepath.Join(dir, "absent")} {
		if v := found[path]; !slices.Equal(v.Unknown, []string{"size", "free"}) || v.Size != 0 {
			t.Errorf("%+v", v)
		}
	}
}

// The kernel's own table is read, and shows where this test runs.
func TestVolumes_OfThisHost(t *testing.T) {
	dir := t.TempDir()
	list, err := Volumes([]Declared{{Path: dir, Default: true}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(v homeward.Volume) bool { return v.Path == dir })
	if i < 0 || !list[i].Default || list[i].Size <= 0 || list[i].FSType == "" {
		t.Errorf("%+v", list)
	}
	for _, v := range list {
		if v.FSType == "proc" || v.FSType == "sysfs" {
			t.Errorf("a pseudo file system: %+v", v)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(table)
	f.Add(`1 2 3 / \040\ rw - a b`)
	f.Fuzz(func(t *testing.T, text string) {
		mounts, _ := parseMounts(strings.NewReader(text))
		for i, m := range mounts {
			if m.fsType == "" || slices.ContainsFunc(mounts[:i], func(o mount) bool { return o.path == m.path }) {
				t.Errorf("%+v", mounts)
			}
		}
	})
}
