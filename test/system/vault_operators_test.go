package system

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/vault"
)

// Operators get in each other's way, repeat themselves, send nonsense, and hang: one
// job comes of it, everybody is told what is the matter, and all of it is written down.
func TestVaultManyOperators(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	g := e.guests[0]
	e.write(10)
	e.sameActionAtOnce(g)
	e.sameKeyAgain(g)
	e.nonsense()
	e.hangingWatcher()
	e.noSecretInBundle()
	e.write(10)
	e.prove(g)
}

// sameActionAtOnce has several operators fail the same machine over, each by the
// command line: one gets a job, the others are told which one it is.
func (e *estate) sameActionAtOnce(g *guest) {
	e.t.Helper()
	const operators = 6
	type answer struct {
		out  []byte
		exit int
	}
	answers := make(chan answer, operators)
	var all sync.WaitGroup
	for range operators {
		all.Go(func() {
			cmd := exec.CommandContext(e.ctx, binary, "item", "test-failover", string(g.item), "--network", "isolated", "--json")
			cmd.Env = append(os.Environ(), e.Operator.Env...)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				e.t.Error(err)
			}
			answers <- answer{out.Bytes(), cmd.ProcessState.ExitCode()}
		})
	}
	all.Wait()
	close(answers)
	var jobs []string
	var refused []answer
	for a := range answers {
		if a.exit == 0 {
			var j vault.Job
			e.must(json.Unmarshal(a.out, &j))
			jobs = append(jobs, j.ID)
			continue
		}
		refused = append(refused, a)
	}
	if len(jobs) != 1 {
		e.t.Fatalf("%d jobs of one action at once: %v", len(jobs), jobs)
	}
	for _, a := range refused {
		if a.exit != homeward.Table[homeward.Conflict].Exit || !bytes.Contains(a.out, []byte(jobs[0])) && !bytes.Contains(a.out, []byte("cleaned up")) && !bytes.Contains(a.out, []byte("test failover")) {
			e.t.Errorf("exit code %d, and the job %s that runs is not named: %s", a.exit, jobs[0], a.out)
		}
	}
	j, err := e.vault.Job(e.ctx, jobs[0])
	e.must(err)
	e.done(j)
	e.done(e.act(g, vault.CleanUpTest, vault.Input{}))
}

// sameKeyAgain repeats a request with its key, also after its job has ended; and uses
// the key for something else.
func (e *estate) sameKeyAgain(g *guest) {
	e.t.Helper()
	req := vault.ActionRequest{Item: g.item, Action: vault.TestFailover, Input: vault.Input{Network: "isolated"}, Key: "again-and-again"}
	first, err := e.vault.Act(e.ctx, req)
	e.must(err)
	for range 3 {
		again, err := e.vault.Act(e.ctx, req)
		e.must(err)
		if again.ID != first.ID {
			e.t.Errorf("the same request made job %s after %s", again.ID, first.ID)
		}
	}
	e.done(first)
	again, err := e.vault.Act(e.ctx, req)
	e.must(err)
	if again.ID != first.ID || again.State != vault.JobSucceeded {
		e.t.Errorf("the same request after the end answers job %s, %s", again.ID, again.State)
	}
	req.Action, req.Input = vault.CleanUpTest, vault.Input{}
	if _, err := e.vault.Act(e.ctx, req); homeward.KindOf(err) != homeward.Conflict {
		e.t.Errorf("the key of another request: %v", err)
	}
	e.done(e.act(g, vault.CleanUpTest, vault.Input{}))
}

// raw sends bytes as they are.
func (e *estate) raw(method, path, token string, body io.Reader) (status int, answer string) {
	e.t.Helper()
	env := e.environment()
	req, err := http.NewRequestWithContext(e.ctx, method, env["HOMEWARD_VAULT"]+path, body)
	e.must(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}} // of this test's own vault
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close() // read whole
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(text)
}

// environment is what the operator's commands are given.
func (e *estate) environment() map[string]string {
	env := map[string]string{}
	for _, v := range e.Operator.Env {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

func (e *estate) nonsense() {
	e.t.Helper()
	token := e.environment()["HOMEWARD_TOKEN"]
	huge := io.MultiReader(strings.NewReader(`{"name":"`), io.LimitReader(endless('x'), 64<<20), strings.NewReader(`"}`))
	for what, c := range map[string]struct {
		method, path, token string
		body                io.Reader
		status              int
		says                string
	}{
		"unknown field":     {"POST", "/v1/items/web01/actions/failover", token, strings.NewReader(`{"points":"latest"}`), 400, "points"},
		"foreign field":     {"POST", "/v1/items/web01/actions/commit", token, strings.NewReader(`{"point":"latest"}`), 400, "point"},
		"unknown action":    {"POST", "/v1/items/web01/actions/explode", token, strings.NewReader(`{}`), 404, ""},
		"unknown item":      {"POST", "/v1/items/nosuch/actions/failover", token, strings.NewReader(`{}`), 404, "nosuch"},
		"unknown job":       {"GET", "/v1/jobs/0123456789abcdef0123456789abcdef", token, nil, 404, "0123456789abcdef"},
		"no JSON":           {"POST", "/v1/items/web01/actions/failover", token, strings.NewReader(`{"point":`), 400, ""},
		"nobody":            {"GET", "/v1/items", "", nil, 401, ""},
		"somebody else":     {"GET", "/v1/items", "hwa_" + strings.Repeat("0", 40), nil, 401, ""},
		"a body of 64 MiB":  {"POST", "/v1/tokens", token, huge, 400, "longer than"},
		"not possible here": {"POST", "/v1/items/web01/actions/commit", token, strings.NewReader(`{}`), 409, "failover"},
	} {
		status, answer := e.raw(c.method, c.path, c.token, c.body)
		closed := what == "a body of 64 MiB" && status == 0 // it may hang up while we still send
		if status != c.status && !closed || !strings.Contains(answer, c.says) {
			e.t.Errorf("%s: %d, and it should be %d and say %q: %s", what, status, c.status, c.says, answer)
		}
	}
}

// endless is a reader of one byte again and again.
type endless byte

func (b endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// hangingWatcher reads nothing of the events that it asked for: the vault goes on, and
// others see theirs.
func (e *estate) hangingWatcher() {
	e.t.Helper()
	env := e.environment()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // of this test's own vault
	for range 20 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, env["HOMEWARD_VAULT"]+"/v1/events", nil)
		e.must(err)
		req.Header.Set("Authorization", "Bearer "+env["HOMEWARD_TOKEN"])
		req.Header.Set("Accept", "text/event-stream")
		resp, err := client.Do(req)
		e.must(err)
		defer resp.Body.Close() // never read
	}
	seen := make(chan error, 1)
	go func() {
		for ev, err := range e.vault.Watch(ctx, vault.WatchRequest{Kinds: []string{"site"}}) {
			if err != nil || ev.Subject == "last" {
				seen <- err
				return
			}
		}
	}()
	for i := range 200 {
		_, err := e.vault.PutSite(e.ctx, vault.SiteRequest{Name: "last", Label: strings.Repeat("x", i%50)})
		e.must(err)
	}
	select {
	case err := <-seen:
		e.must(err)
	case <-time.After(30 * time.Second):
		e.t.Error("a watcher that reads sees nothing, while others hang")
	}
	e.must(e.vault.DeleteSite(e.ctx, "last"))
}

// noSecretInBundle looks for every secret of this installation in a support bundle,
// in the audit log and in the logs.
func (e *estate) noSecretInBundle() {
	e.t.Helper()
	made, err := e.vault.CreateToken(e.ctx, vault.TokenRequest{Name: "secret", Access: vault.Reader})
	e.must(err)
	enrolment, err := e.vault.CreateEnrolment(e.ctx, vault.EnrolmentRequest{Role: "agent", Site: "home"})
	e.must(err)
	key, err := os.ReadFile(filepath.Join(e.Dir, "agent-home", "identity", "key.pem"))
	e.must(err)
	secrets := []string{made.Secret, enrolment.Secret, e.environment()["HOMEWARD_TOKEN"], strings.Split(string(key), "\n")[1]}
	out := filepath.Join(e.Dir, "bundle.tar.gz")
	e.must(e.Operator.Ask(e.ctx, &struct{}{}, "bundle", "--out", out))
	e.look(e.unpacked(out), secrets)
	page, err := e.vault.Audit(e.ctx, vault.Query{Limit: vault.MaxPage})
	e.must(err)
	audit, err := json.Marshal(page)
	e.must(err)
	logs, err := filepath.Glob(filepath.Join(e.Dir, "*.log"))
	e.must(err)
	files := map[string][]byte{"audit log": audit}
	for _, path := range logs {
		files[path], err = os.ReadFile(path)
		e.must(err)
	}
	e.look(files, secrets)
	asked := map[string]int{}
	for _, entry := range page.Entries {
		asked[entry.Action+" "+entry.Outcome]++
	}
	for what, least := range map[string]int{"item.enable accepted": 1, "item.test-failover accepted": 2, "item.test-failover conflict": 1, "item.test-failover-cleanup accepted": 2,
		"item.commit conflict": 1, "site.put accepted": 200, "token.create accepted": 1, "policy.put accepted": 1} {
		if asked[what] < least {
			e.t.Errorf("the audit log has %d of %s: %v", asked[what], what, asked)
		}
	}
}

func (e *estate) look(files map[string][]byte, secrets []string) {
	e.t.Helper()
	for name, data := range files {
		for i, s := range secrets {
			if len(s) < 20 {
				e.t.Fatalf("secret %d is %d characters", i, len(s))
			}
			if bytes.Contains(data, []byte(s)) {
				e.t.Errorf("%s holds secret %d", name, i)
			}
		}
	}
}

func (e *estate) unpacked(path string) map[string][]byte {
	e.t.Helper()
	f, err := os.Open(path)
	e.must(err)
	defer f.Close() // only read
	zip, err := gzip.NewReader(f)
	e.must(err)
	files := map[string][]byte{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		e.must(err)
		files[h.Name], err = io.ReadAll(r)
		e.must(err)
	}
}
