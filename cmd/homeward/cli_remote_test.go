package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api/apitest"
	"github.com/homeward-dr/homeward/vault"
)

// console runs the operator's commands in this process.
type console struct {
	t     *testing.T
	vault vault.Vault
	in    *os.File
	tty   terminals
	to    chan connection // the connections that were asked for
}

func newConsole(t *testing.T, v vault.Vault) *console {
	t.Setenv("HOMEWARD_PROFILE", filepath.Join(t.TempDir(), "profile.json"))
	t.Setenv("HOMEWARD_VAULT", "https://vault:8440")
	return &console{t: t, vault: v, to: make(chan connection, 10)}
}

func newMemory(t *testing.T) *apitest.Memory {
	m := apitest.NewMemory()
	t.Cleanup(m.Close)
	return m
}

func asAdministrator(ctx context.Context) context.Context {
	return vault.WithCaller(ctx, vault.Caller{Name: "root", Access: vault.Administrator})
}

func (s *console) run(ctx context.Context, out io.Writer, line string) (code int, errOut string) {
	var e bytes.Buffer
	c := &command{streams: streams{in: s.in, out: out, err: &e}, tty: s.tty, connect: func(to connection) (vault.Vault, func(), error) {
		s.to <- to
		return s.vault, func() {}, nil
	}}
	code = c.run(asAdministrator(ctx), strings.Fields(line))
	return code, e.String()
}

// wants runs a line to its end.
func (s *console) wants(code int, line string) (out, errOut string) {
	s.t.Helper()
	var b bytes.Buffer
	got, errOut := s.run(s.t.Context(), &b, line)
	if got != code {
		s.t.Fatalf("homeward %s: ended with %d, want %d\n%s%s", line, got, code, b.String(), errOut)
	}
	return b.String(), errOut
}

// answer is what the person at the terminal types.
func (s *console) answer(text string) {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err == nil {
		_, err = w.WriteString(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = r.Close() })
	s.in = r
}

func TestCLI_AsksBeforeItDestroys(t *testing.T) {
	m := newMemory(t)
	s := newConsole(t, m)
	s.wants(0, "item protect web01 --to dr --policy gold --wait")
	s.wants(0, "item failover web01 --wait")
	s.wants(0, "item commit web01 --wait")
	s.tty.in = true
	s.answer("no\n")
	_, says := s.wants(14, "item reprotect web01")
	for _, word := range []string{"Reprotect web01?", "Type yes to go on", "- what the old side wrote", "nothing was done"} {
		if !strings.Contains(says, word) {
			t.Errorf("lacks %q:\n%s", word, says)
		}
	}
	s.answer("") // the terminal hung up
	s.wants(14, "token delete ops")
	if out, _ := s.wants(0, "job list"); strings.Contains(out, "Reprotect") {
		t.Errorf("it was done all the same:\n%s", out)
	}
	s.answer("yes\nmore")
	s.wants(0, "item reprotect web01 --wait")
	s.wants(0, "item failback web01 --yes --wait")
	s.tty.in = false // a script is not asked
	s.wants(0, "item commit web01 --wait")
}

func TestCLI_Watch(t *testing.T) {
	m := newMemory(t)
	s := newConsole(t, m)
	for _, flags := range []string{"", "--json "} {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		ended := make(chan int, 1)
		go func() {
			code, _ := s.run(ctx, w, flags+"item list --watch")
			_ = w.Close()
			ended <- code
		}()
		item := map[string]string{"": "web01", "--json ": "web02"}[flags]
		var lines []string
		scan := bufio.NewScanner(r)
		if flags == "" && scan.Scan() { // the heading comes at once
			lines = append(lines, scan.Text())
		}
		other := newQuiet(s)
		other.wants(0, "item protect "+item+" --to dr --policy gold --wait")
		for scan.Scan() {
			lines = append(lines, scan.Text())
			if strings.Contains(scan.Text(), item) && strings.Contains(scan.Text(), "protected") {
				break
			}
		}
		cancel()
		_, _ = io.Copy(io.Discard, r)
		if code := <-ended; code != 0 {
			t.Errorf("ended with %d", code)
		}
		all := strings.Join(lines, "\n")
		if !strings.Contains(all, item) || strings.Contains(all, "\x1b") {
			t.Errorf("not plain lines of %s:\n%q", item, all)
		}
	}
}

// newQuiet is a second console of the same vault.
func newQuiet(s *console) *console {
	return &console{t: s.t, vault: s.vault, to: make(chan connection, 10)}
}

// On a terminal, tasks are redrawn in place.
func TestCLI_WaitOnATerminal(t *testing.T) {
	m := newMemory(t)
	s := newConsole(t, m)
	s.tty.out = true
	out, _ := s.wants(0, "item protect web01 --to dr --policy gold --wait")
	if !strings.Contains(out, "succeeded") {
		t.Errorf("%q", out)
	}
	if out, _ = s.wants(0, "item list"); !strings.Contains(out, "│ web01 │") {
		t.Errorf("no table with lines:\n%s", out)
	}
	var b bytes.Buffer
	v := jobView{remote: &remote{command: &command{streams: streams{out: &b}, tty: terminals{out: true}}}, said: map[string]string{}}
	j := vault.Job{ID: "job-1", Title: "Reprotect", State: vault.JobRunning, Tasks: []vault.Task{{Title: "Reprotecting", State: vault.TaskRunning,
		Progress: homeward.Progress{Done: 1 << 30, Total: 4 << 30, Rate: 1 << 20, Left: 90}, Children: []vault.Task{{Title: "Comparing", State: vault.TaskNotStarted}}}}}
	for range 2 {
		if err := v.show(j); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"25%, 1.0 GiB of 4.0 GiB, 1.0 MiB/s, 1m30s left", "\x1b[3A\x1b[J"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q: %q", want, b.String())
		}
	}
}

// A vault that is away for a moment does not end a wait; a job is told as it ended.
func TestCLI_WaitOutlivesTheVault(t *testing.T) {
	m := newMemory(t)
	f := &flaky{Memory: m, fails: 2}
	s := newConsole(t, f)
	j, err := m.Act(asAdministrator(t.Context()), vault.ActionRequest{Item: "web01", Machine: "home/vm-1", Action: vault.Enable, Input: vault.Input{Target: "dr", Policy: "gold"}})
	if err != nil {
		t.Fatal(err)
	}
	_, says := s.wants(0, "job wait "+j.ID)
	if strings.Count(says, "trying again") != 1 {
		t.Errorf("%s", says)
	}
	for state, code := range map[vault.JobState]int{vault.JobSucceeded: 0, vault.JobFailed: 20, vault.JobPaused: 21, vault.JobCancelled: 22} {
		f.answer = &vault.Job{ID: "job-x", Title: "Reprotect", State: state, Error: &vault.Failure{Kind: homeward.NoSpace, Message: "the volume is full", Remedy: "free some"}}
		_, says := s.wants(code, "job wait job-x")
		if code != 0 && (!strings.Contains(says, "the volume is full") || !strings.Contains(says, "what to do: free some")) {
			t.Errorf("%s: %s", state, says)
		}
	}
	f.answer = &vault.Job{ID: "job-x", State: vault.JobSucceeded, Predicted: &homeward.Estimate{Bytes: 64 << 20, Certainty: homeward.Exact, WireBytes: 65 << 20, Seconds: 12},
		Took: json.RawMessage(`{"changed":67108864,"wire_bytes":20971520,"seconds":9}`)}
	if out, _ := s.wants(0, "job wait job-x"); !strings.Contains(out, "predicted: 64.0 MiB (exact), 65.0 MiB over the link, 12s\ntook:      64.0 MiB, 20.0 MiB over the link, 9s") {
		t.Errorf("%s", out)
	}
	f.answer = &vault.Job{ID: "job-x", State: vault.JobRunning}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // Ctrl-C
	defer cancel()
	if code, says := s.run(ctx, io.Discard, "job wait job-x"); code != 14 || !strings.Contains(says, "the job goes on") {
		t.Errorf("%d %s", code, says)
	}
}

// flaky is away for the first calls of Job, or answers a job of the test's.
type flaky struct {
	*apitest.Memory
	fails  int
	answer *vault.Job
}

func (f *flaky) Job(ctx context.Context, id string) (vault.Job, error) {
	if f.fails > 0 {
		f.fails--
		return vault.Job{}, homeward.Errorf("call vault", homeward.Unavailable, "vault", "", "away")
	}
	if f.answer != nil {
		return *f.answer, nil
	}
	return f.Memory.Job(ctx, id)
}

func TestCLI_Connection(t *testing.T) {
	s := newConsole(t, newMemory(t))
	s.answer("hw-secret\n")
	s.wants(0, "login --vault https://a:1 --ca ca.pem")
	<-s.to
	ask := func(line string) connection {
		t.Helper()
		s.wants(0, line)
		return <-s.to
	}
	t.Setenv("HOMEWARD_VAULT", "")
	if to := ask("status"); to.URL != "https://a:1" || to.Token != "hw-secret" || !filepath.IsAbs(to.CA) {
		t.Errorf("of the profile: %+v", to)
	}
	if to := ask("status --vault https://b:1"); to != (connection{URL: "https://b:1"}) {
		t.Errorf("another vault was given the profile's token: %+v", to)
	}
	t.Setenv("HOMEWARD_VAULT", "https://c:1")
	t.Setenv("HOMEWARD_TOKEN", "env")
	if to := ask("status --token flag"); to != (connection{URL: "https://c:1", Token: "flag"}) {
		t.Errorf("flags come first: %+v", to)
	}
	path, err := profilePath()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

const planted = "hunter2-planted"

// leaky has a secret in every corner.
type leaky struct{ *apitest.Memory }

func (l leaky) Machines(context.Context, vault.Query) (vault.Page[vault.Machine], error) {
	m := vault.Machine{ID: "home/web01", Found: homeward.SiteMachine{Console: "nbd://admin:" + planted + "@host/export", Machine: homeward.Machine{Name: "web01", NVRAM: []byte(planted)}}}
	return vault.Page[vault.Machine]{Entries: []vault.Machine{m}}, nil
}

func (l leaky) Jobs(context.Context, vault.Query) (vault.Page[vault.Job], error) {
	j := vault.Job{ID: "job-7", Title: "Reprotect", Input: json.RawMessage(`{"datastore":"ds1","vcenter_password":"` + planted + `","probe":{"command":["curl","-u","x:` + planted + `"]}}`),
		Error: &vault.Failure{Message: "login failed: password=" + planted + ", Authorization: Bearer " + planted}}
	return vault.Page[vault.Job]{Entries: []vault.Job{j}}, nil
}

func (l leaky) Alerts(context.Context, vault.Query) (vault.Page[vault.Alert], error) {
	a := vault.Alert{ID: "a1", Text: "key: -----BEGIN PRIVATE KEY-----\n" + planted + "\n-----END PRIVATE KEY-----"}
	return vault.Page[vault.Alert]{Entries: []vault.Alert{a}}, nil
}

func (l leaky) Tokens(context.Context, vault.Query) (vault.Page[vault.APIToken], error) {
	return vault.Page[vault.APIToken]{Entries: []vault.APIToken{{Name: "ops", Secret: planted}}}, nil
}

func (l leaky) Enrolments(context.Context, vault.Query) (vault.Page[vault.EnrolmentToken], error) {
	return vault.Page[vault.EnrolmentToken]{Entries: []vault.EnrolmentToken{{ID: "e1", Secret: planted}}}, nil
}

func (l leaky) Audit(context.Context, vault.Query) (vault.Page[vault.AuditEntry], error) {
	return vault.Page[vault.AuditEntry]{}, homeward.Errorf("list", homeward.Forbidden, "audit", "", "not with --token %s", planted)
}

func TestCLI_BundleHoldsNoSecrets(t *testing.T) {
	m := newMemory(t)
	if _, err := m.PutPolicy(asAdministrator(t.Context()), vault.PolicyRequest{Name: "leaky",
		Settings: homeward.Policy{Freeze: homeward.Hook{FreezeCommand: []string{"mysql", "-p" + planted}}}.WithDefaults()}); err != nil {
		t.Fatal(err)
	}
	s := newConsole(t, leaky{m})
	s.wants(0, "item protect home/vm-1 --as web01 --to dr --policy leaky --override R13="+"own-token")
	t.Setenv("HOMEWARD_TOKEN", "own-token")
	path := filepath.Join(t.TempDir(), "b.tar.gz")
	out, _ := s.wants(0, "--json bundle --out "+path)
	if !strings.Contains(out, `"missing":["audit.json"]`) {
		t.Errorf("%s", out)
	}
	files := untar(t, path)
	for name, text := range files {
		for _, secret := range []string{planted, "own-token"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s gives a secret away:\n%s", name, text)
			}
		}
	}
	for name, word := range map[string]string{"status.json": `"store"`, "jobs.json": "ds1", "machines.json": "home/web01", "items/web01/readiness.json": `"score"`,
		"items.json": "web01", "nodes.json": "mt-home", "policies.json": "leaky", "alerts.json": "key: [redacted]", "audit.json.error.txt": "forbidden", "version.json": "go", "sites.json": "dr", "enrolments.json": "e1"} {
		if word == "forbidden" {
			word = "not with --token [redacted]"
		}
		if !strings.Contains(files["homeward-bundle/"+name], word) {
			t.Errorf("%s lacks %q:\n%s", name, word, files["homeward-bundle/"+name])
		}
	}
}

func untar(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(data)
	}
}

func TestRedactor(t *testing.T) {
	c := redactor{literal: "literal"}
	for in, want := range map[string]string{
		"a literal thing":                              "a [redacted] thing",
		"db_password: x y":                             "db_password: [redacted] y",
		`{"token":"abc"}`:                              `{"token":[redacted]}`,
		"https://u:p@host/x":                           "https://[redacted]@host/x",
		"Authorization: Basic dXNlcjpw":                "Authorization: Basic [redacted]",
		"run --password pw now":                        "run --password [redacted] now",
		"the policy keeps 24 h":                        "the policy keeps 24 h",
		"api-key=1&x=2":                                "api-key=[redacted]&x=2",
		"site hw.ci." + strings.Repeat("0a", 32) + ".": "site [redacted].",
		"hw1.0123456789abcdef." + strings.Repeat("a-", 21) + "b." + strings.Repeat("_z", 21) + "!": "[redacted]!",
		"the host hw.example.org": "the host hw.example.org",
	} {
		if got := c.text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestCLI_EveryCommandIsDescribed(t *testing.T) {
	root := (&command{}).root()
	for _, top := range root.Commands() {
		for _, cmd := range append(top.Commands(), top) {
			if cmd.Short == "" {
				t.Errorf("%s says nothing of itself", cmd.CommandPath())
			}
		}
	}
	for _, a := range vault.Actions() {
		if a == vault.Enable || a == vault.Pause || a == vault.Resume {
			continue // protect, pause, resume
		}
		found := false
		for _, i := range itemActions() {
			found = found || i.action == a
		}
		if !found {
			t.Errorf("no command for %s", a)
		}
	}
}
