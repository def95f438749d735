package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api"
	"github.com/homeward-dr/homeward/vault"
)

// startVault runs the vault until the test ends, or stop is called.
func startVault(t *testing.T, s *shell) (told vaultReady, stop func()) {
	t.Helper()
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, say := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	var complaints strings.Builder
	go func() {
		defer func() { _ = say.Close() }()
		ended <- run(ctx, []string{"vault", "--json", "--dir", s.path("v"), "--listen-api", "127.0.0.1:0", "--listen-nodes", "127.0.0.1:0"}, streams{in: in, out: say, err: &complaints})
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("it is not ready: %v\n%s", err, complaints.String())
	}
	if err := json.Unmarshal([]byte(line), &told); err != nil {
		t.Fatal(err)
	}
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("it ended with %d\n%s", code, complaints.String())
		}
		_, _ = in.Close(), feed.Close()
	}
	t.Cleanup(stop)
	return told, stop
}

func client(t *testing.T, o api.ClientOptions) *api.Client {
	t.Helper()
	c, err := api.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A vault is set up, started, told something over HTTPS and over its own socket, and
// backed up while it runs; what is restored is read-only in a new epoch until it is
// reconciled.
func TestVault_SetUp_BackUp_Restore(t *testing.T) {
	s := newShell(t)
	var made struct{ Token, Fingerprint string }
	if err := json.Unmarshal([]byte(s.run("vault init --json --dir v").wants(0).out), &made); err != nil {
		t.Fatal(err)
	}
	s.run("vault init --dir v").wants(homeward.Table[homeward.Exists].Exit)
	told, stop := startVault(t, s)
	ctx := t.Context()

	operator := client(t, api.ClientOptions{URL: told.API, Token: made.Token, Fingerprint: made.Fingerprint})
	if _, err := operator.PutSite(ctx, vault.SiteRequest{Name: "home"}); err != nil {
		t.Fatal(err)
	}
	stranger := client(t, api.ClientOptions{URL: told.API, Token: "hw.admin.00", CA: told.CA})
	if _, err := stranger.Status(ctx); homeward.KindOf(err) != homeward.Unauthentic {
		t.Errorf("a stranger: %v", err)
	}
	local := client(t, api.ClientOptions{URL: "unix://" + told.Socket})
	if _, err := local.Tokens(ctx, vault.Query{}); err != nil {
		t.Errorf("the administrator at the host: %v", err)
	}
	s.run("vault backup --dir v --out backup").wants(0)
	if _, err := operator.PutSite(ctx, vault.SiteRequest{Name: "later"}); err != nil {
		t.Fatal(err)
	}
	stop()

	s.run("vault restore --dir v --from backup").wants(homeward.Table[homeward.Conflict].Exit) // it is not empty
	for _, name := range []string{"vault.db", "vault.db-wal", "vault.db-shm"} {
		if err := os.RemoveAll(s.path("v/" + name)); err != nil {
			t.Fatal(err)
		}
	}
	s.run("vault restore --dir v --from backup").wants(0)
	told, _ = startVault(t, s)
	operator = client(t, api.ClientOptions{URL: told.API, Token: made.Token, Fingerprint: made.Fingerprint})
	if _, err := operator.Status(ctx); homeward.KindOf(err) != homeward.Unauthentic || !strings.Contains(err.Error(), "reconciled") {
		t.Errorf("a token of the backup, which may have been deleted since: %v", err)
	}
	local = client(t, api.ClientOptions{URL: "unix://" + told.Socket})
	fresh, err := local.CreateToken(ctx, vault.TokenRequest{Name: "fresh", Access: vault.Administrator})
	if err != nil {
		t.Fatal(err)
	}
	operator = client(t, api.ClientOptions{URL: told.API, Token: fresh.Secret, Fingerprint: made.Fingerprint})
	status, err := operator.Status(ctx)
	if err != nil || !status.ReadOnly || status.Epoch < 2 {
		t.Fatalf("%+v, %v", status, err)
	}
	if _, err := operator.PutSite(ctx, vault.SiteRequest{Name: "away"}); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("while read-only: %v", err)
	}
	if _, err := operator.Site(ctx, "later"); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("after the backup: %v", err)
	}
	if status, err = operator.Reconcile(ctx, false); err != nil || status.ReadOnly {
		t.Fatalf("%+v, %v", status, err)
	}
	operator = client(t, api.ClientOptions{URL: told.API, Token: made.Token, Fingerprint: made.Fingerprint})
	if _, err := operator.PutSite(ctx, vault.SiteRequest{Name: "away"}); err != nil {
		t.Error(err)
	}
}
