package enrol

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// vaultIdentity is an authority and an identity in the time of the bubble.
func vaultIdentity(t *testing.T) (*pki.Authority, *pki.Identity) {
	t.Helper()
	a, err := pki.CreateAuthority(durable.OS(), filepath.Join(t.TempDir(), "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "vault")
	if err := a.Issue(pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "v1"}}, dir); err != nil {
		t.Fatal(err)
	}
	id, err := pki.LoadIdentity(durable.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return a, id
}

// A hundred days pass: it renews after two thirds of each certificate's life, and
// is never without a valid one.
func TestKeep_RenewsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, id := vaultIdentity(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var at []time.Time
		begun := time.Now()
		renew := func(ctx context.Context, csr []byte) (pki.Grant, error) {
			at = append(at, time.Now())
			if left := time.Until(id.Expires()); left <= 0 || left > pki.DefaultLifetime/3+time.Hour {
				t.Errorf("renewed %v before it expires", left)
			}
			return BySelf(a, id)(ctx, csr)
		}
		done := make(chan error, 1)
		go func() { done <- Keep(ctx, id, renew, quiet) }()
		time.Sleep(100 * 24 * time.Hour)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(at) != 4 {
			t.Errorf("renewed %d times in %v: %v", len(at), time.Since(begun), at)
		}
	})
}

// The vault is away over the expiry: attempts become rarer but do not end, and the
// first that works heals it.
func TestKeep_OutlivesAnAbsentVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, id := vaultIdentity(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		back := time.Now().Add(40 * 24 * time.Hour)
		tries := 0
		renew := func(ctx context.Context, csr []byte) (pki.Grant, error) {
			tries++
			if time.Now().Before(back) {
				return pki.Grant{}, homeward.Errorf("ask vault", homeward.Unavailable, "v1", "wait", "away")
			}
			return BySelf(a, id)(ctx, csr)
		}
		done := make(chan error, 1)
		go func() { done <- Keep(ctx, id, renew, quiet) }()
		time.Sleep(time.Until(back.Add(2 * maxRetry)))
		synctest.Wait()
		cancel()
		<-done
		if tries < 20*24 || tries > 2*20*24+20 {
			t.Errorf("%d attempts in 20 days of absence", tries)
		}
		if time.Until(id.Expires()) < 20*24*time.Hour {
			t.Errorf("expires at %v", id.Expires())
		}
	})
}

// One port: nodes enrol and everybody else is served beside them.
func TestSplit(t *testing.T) {
	in := newInstallation(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	enrolment, rest := Split(ln)
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := in.server.Serve(ctx, enrolment); err != nil {
			t.Errorf("enrolment: %v", err)
		}
	})
	got := make(chan string, 1)
	serving.Go(func() {
		conn, err := rest.Accept()
		if err != nil {
			t.Errorf("rest: %v", err)
			return
		}
		defer conn.Close()
		first := make([]byte, 1)
		if _, err := conn.Read(first); err != nil || first[0] != 0x16 { // the handshake from its first byte
			t.Errorf("read %x: %v", first, err)
		}
		got <- "rest"
	})
	r := in.request(in.token(enrolRequest), agent1)
	r.Vaults = []string{"127.0.0.1:1", ln.Addr().String()} // the first is not there
	if err := Enrol(in.within(), r); err != nil {
		t.Fatal(err)
	}
	id := in.load(r.Dir)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	serving.Go(func() {
		config := id.ClientTLS(pki.Vault)
		config.NextProtos = []string{"h2"}
		if tlsHandshake(conn, config) == nil {
			t.Error("a closed connection shook hands")
		}
	})
	select {
	case <-got:
	case <-in.within().Done():
		t.Fatal("nothing came out of the second listener")
	}
	stray, err := net.Dial("tcp", ln.Addr().String()) // says nothing until the end
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	cancel()
	_ = rest.Close()
	serving.Wait()
	_ = enrolment.Close()
}

var enrolRequest = vault.EnrolmentRequest{Role: pki.Agent, Site: "home"}
