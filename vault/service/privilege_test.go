package service

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// Other inputs for a job are another request: they take the access that the action does.
func TestTellJob_InputsTakeTheActionsAccess(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	input, err := assignment{}.encode()
	must(t, err)
	j := vault.Job{ID: "j1", Item: "web01", Action: vault.Disable, State: vault.JobRunning, Input: input}
	must(t, r.store.Jobs.Insert(ctx, &j))
	ask := vault.JobRequest{ID: "j1", Action: vault.JobRetry, Input: json.RawMessage(`{"force":true}`)}
	if _, err := r.TellJob(as(ctx, vault.Operator), ask); homeward.KindOf(err) != homeward.Forbidden {
		t.Errorf("an operator may change what a contributor asked for: %v", err)
	}
	if _, err := r.TellJob(as(ctx, vault.Contributor), ask); homeward.KindOf(err) == homeward.Forbidden {
		t.Errorf("a contributor may not: %v", err)
	}
	ask.Input = nil
	if _, err := r.TellJob(as(ctx, vault.Operator), ask); homeward.KindOf(err) == homeward.Forbidden {
		t.Errorf("an operator may not retry: %v", err)
	}
}

// What is refused is in the audit log, but not megabytes of it for each try.
func TestAudit_EntriesAreBounded(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	long := strings.Repeat("ä", 400_000)
	if _, err := r.PutSite(as(ctx, vault.Reader), vault.SiteRequest{Name: long, Label: long}); homeward.KindOf(err) != homeward.Forbidden {
		t.Fatal(err)
	}
	log, err := r.Audit(admin(ctx), vault.Query{Limit: 1})
	must(t, err)
	if e := log.Entries[0]; len(e.Detail)+len(e.Subject) > 16<<10 || !strings.Contains(e.Detail, "takes access") {
		t.Errorf("%d bytes of detail, %d of subject", len(e.Detail), len(e.Subject))
	}
}

// A key that anybody could use first would keep a test failover open.
func TestExpiryKey_IsNobodysElse(t *testing.T) {
	at := time.Now()
	one, other := vault.Item{ID: "web01", Test: vault.Test{Expires: at}}, vault.Item{ID: "web02", Test: vault.Test{Expires: at}}
	key := expiryKey(one, at)
	if !strings.Contains(key, " ") || key == expiryKey(other, at) || key == expiryKey(one, at.Add(2*expireAgain)) {
		t.Errorf("key %q", key)
	}
}

// The audit log tells by these names what no token did.
func TestCreateToken_NamesOfTheVaultItself(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	for _, name := range []string{"local", "vault", "node", "api"} {
		if _, err := r.CreateToken(admin(ctx), vault.TokenRequest{Name: name, Access: vault.Reader}); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A probe is made from a configuration server's host: it must not be a way to what only
// that host may ask, nor hold a password that every reader sees.
func TestProbe_Targets(t *testing.T) {
	for _, p := range []vault.Probe{
		{TCP: "no-port"}, {TCP: "h:0"}, {TCP: "169.254.169.254:80"}, {TCP: "[fe80::1]:22"},
		{HTTP: "file:///etc/passwd"}, {HTTP: "ftp://h/"}, {HTTP: "http://"}, {HTTP: "http://u:p@h/"}, {HTTP: "http://169.254.169.254/latest/"},
		{Command: []string{"rm"}},
	} {
		err := checkInput(vault.ActionRequest{Item: "web01", Action: vault.Failover, Input: vault.Input{Probe: &p}})
		if k := homeward.KindOf(err); k != homeward.Invalid && k != homeward.Unsupported {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []vault.Probe{{TCP: "127.0.0.1:22"}, {TCP: "host.example:80"}, {HTTP: "https://h/health?x=1"}} {
		if err := checkInput(vault.ActionRequest{Item: "web01", Action: vault.Failover, Input: vault.Input{Probe: &p}}); err != nil {
			t.Error(err)
		}
	}
}
