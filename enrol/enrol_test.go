package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

func TestEnrol_ANodeComesIn(t *testing.T) {
	in := newInstallation(t)
	id, r := in.enrolled(agent1)
	if id.Peer() != agent1 {
		t.Errorf("it became %v", id.Peer())
	}
	n := in.node("agent-1")
	if n.State != vault.NodeRegistering || n.Site != "home" || n.Version != "test" || len(n.Addresses) != 1 || n.Expires.IsZero() || len(n.Certificates) != 1 {
		t.Errorf("entered as %+v", n)
	}
	if len(in.changed) != 1 || len(in.audits) != 1 || in.audits[0].Outcome != "accepted" || in.audits[0].From != "127.0.0.1" {
		t.Errorf("told of %v, audited %+v", in.changed, in.audits)
	}
	all, err := Addresses(durable.OS(), r.Dir, []string{"given:1"})
	if err != nil || fmt.Sprint(all) != fmt.Sprintf("[given:1 %s back.example:7443]", in.addr) {
		t.Errorf("knows %v: %v", all, err)
	}
	for _, e := range in.store.enrolments.all {
		if strings.Contains(r.Token.Reveal(), e.Hash) || e.Secret != "" {
			t.Error("the store holds the secret")
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", r.Token, r.Token, r.Token); strings.Contains(text, strings.Split(r.Token.Reveal(), ".")[2]) {
		t.Error("printed, a token tells its secret")
	}
}

func TestEnrol_LiesAreRefusedAndCostNothing(t *testing.T) {
	in := newInstallation(t)
	token := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home", Node: "agent-1"})
	for _, c := range []struct {
		says string
		lie  func(*Request)
	}{
		{"for role agent", func(r *Request) { r.Peer.Role = pki.MasterTarget }},
		{"for role agent", func(r *Request) { r.Peer.Role = pki.Vault }},
		{`admits "agent-1"`, func(r *Request) { r.Peer.Name = "agent-2" }},
		{`site "home"`, func(r *Request) { r.Site = "dr" }},
	} {
		r := in.request(token, agent1)
		c.lie(&r)
		wantKind(t, Enrol(in.within(), r), homeward.Forbidden, c.says)
		if _, err := os.Stat(filepath.Join(r.Dir, "cert.pem")); err == nil {
			t.Error("a refused node has a certificate")
		}
	}
	if len(in.store.nodes.all) != 0 {
		t.Errorf("refused nodes were entered: %v", in.store.nodes.all)
	}
	if err := Enrol(in.within(), in.request(token, agent1)); err != nil { // the token is still good
		t.Fatal(err)
	}
}

func TestEnrol_ATokenIsGoodOnce(t *testing.T) {
	in := newInstallation(t)
	token := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"})
	if err := Enrol(in.within(), in.request(token, agent1)); err != nil {
		t.Fatal(err)
	}
	used := in.store.enrolments.all[token.ID].Used.Format(time.RFC3339)
	other := pki.Peer{Role: pki.Agent, Name: "agent-2"}
	wantKind(t, Enrol(in.within(), in.request(token, other)), homeward.Unauthentic, "used at "+used, "agent-1")
	// The same name with another key is somebody else.
	wantKind(t, Enrol(in.within(), in.request(token, agent1)), homeward.Unauthentic, "used at "+used)
}

func TestEnrol_ALostAnswerIsGivenAgain(t *testing.T) {
	in := newInstallation(t)
	r := in.request(in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"}), agent1)
	csr, err := pki.NewCSR(r.FS, r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	first := NodeRequest{Token: r.Token.Reveal(), CSR: csr, Peer: r.Peer}
	if _, err := ask(in.within(), pki.PinnedTLS(r.Token.CA, pki.Vault), r.Vaults, nodePath, first); err != nil {
		t.Fatal(err) // and this answer is thrown away
	}
	if err := Enrol(in.within(), r); err != nil {
		t.Fatal(err)
	}
	n := in.node("agent-1")
	if len(n.Certificates) != 2 || n.Certificates[0].Key != n.Certificates[1].Key {
		t.Errorf("certificates: %+v", n.Certificates)
	}
	in.clock.forward(2 * time.Hour)
	wantKind(t, Enrol(in.within(), in.request(r.Token, agent1)), homeward.Unauthentic, "expired")
}

func TestEnrol_Races(t *testing.T) {
	in := newInstallation(t)
	token := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"})
	const racers = 8
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		r := in.request(token, pki.Peer{Role: pki.Agent, Name: fmt.Sprintf("racer-%d", i)})
		wg.Go(func() { errs[i] = Enrol(in.within(), r) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantKind(t, err, homeward.Unauthentic, "used at")
		}
	}
	if won != 1 || len(in.store.nodes.all) != 1 {
		t.Errorf("%d won, %d nodes entered", won, len(in.store.nodes.all))
	}
}

func TestEnrol_ExpiredForgedAndForeignTokens(t *testing.T) {
	in := newInstallation(t)
	other := newInstallation(t)
	token := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home", Lifetime: time.Minute})
	forged := token
	forged.secret[0] ^= 1
	wantKind(t, Enrol(in.within(), in.request(forged, agent1)), homeward.Unauthentic, "does not know")
	forged = newToken(token.CA)
	wantKind(t, Enrol(in.within(), in.request(forged, agent1)), homeward.Unauthentic, "does not know")
	// The token of another vault: the client notices, and shows it to nobody.
	foreign := other.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"})
	wantKind(t, Enrol(in.within(), in.request(foreign, agent1)), homeward.Unauthentic, "fingerprint")
	in.clock.forward(2 * time.Minute)
	wantKind(t, Enrol(in.within(), in.request(token, agent1)), homeward.Unauthentic, "expired at")
}

func TestEnrol_GuessingIsSlowedDown(t *testing.T) {
	in := newInstallation(t)
	good := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home", Node: "agent-1"})
	guess := func() error {
		r := in.request(newToken(good.CA), agent1)
		csr, err := pki.NewCSR(r.FS, r.Dir)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = post(in.within(), pki.PinnedTLS(good.CA, pki.Vault), in.addr, nodePath, NodeRequest{Token: r.Token.Reveal(), CSR: csr, Peer: agent1})
		return err
	}
	for range burst {
		wantKind(t, guess(), homeward.Unauthentic)
	}
	wantKind(t, guess(), homeward.Busy, "too many")
	in.clock.forward(burst * refill)
	if err := Enrol(in.within(), in.request(in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"}), agent1)); err != nil {
		t.Fatal(err)
	}
}

func TestLimiter_IsBounded(t *testing.T) {
	c := &clock{}
	l := newLimiter(c.now)
	for i := range 2 * maxSources {
		l.failed(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	if len(l.sources) > maxSources {
		t.Errorf("%d sources are remembered", len(l.sources))
	}
	if pki.Source("2001:db8::1") != pki.Source("2001:db8::2") || pki.Source("10.0.0.1") == pki.Source("10.0.0.2") {
		t.Error("sources are told apart wrongly")
	}
}

func TestEnrol_ANameIsTakenOverOnlyOnPurpose(t *testing.T) {
	in := newInstallation(t)
	id, r := in.enrolled(agent1)
	before := in.node("agent-1")
	anyone := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"})
	wantKind(t, Enrol(in.within(), in.request(anyone, agent1)), homeward.Exists, "has this name")
	elsewhere := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "dr", Node: "agent-1"})
	wantKind(t, Enrol(in.within(), in.request(elsewhere, agent1)), homeward.Exists, "has this name")

	in.enrolled(agent1) // with a token for this very name
	if n := in.node("agent-1"); n.Serial == before.Serial || n.State != vault.NodeRegistering || len(n.Certificates) != 1 {
		t.Errorf("entered again as %+v", n)
	}
	// What was issued before is void.
	wantKind(t, in.renew(id, r), homeward.Unauthentic, "refused this node")
}

func TestRenew_KeepsRoleAndName(t *testing.T) {
	in := newInstallation(t)
	id, r := in.enrolled(agent1)
	before := in.node("agent-1")
	if err := in.renew(id, r); err != nil {
		t.Fatal(err)
	}
	n := in.node("agent-1")
	if id.Peer() != agent1 || n.Serial == before.Serial || len(n.Certificates) != 2 || n.Certificates[1].Key == n.Certificates[0].Key {
		t.Errorf("%v renewed to %+v", id.Peer(), n.Certificates)
	}
}

func TestRenew_LostAnswersAndOldCertificates(t *testing.T) {
	in := newInstallation(t)
	id, r := in.enrolled(agent1)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(r.Dir)); err != nil {
		t.Fatal(err)
	}
	stolen := in.load(copied)
	lost := func(ctx context.Context, csr []byte) (pki.Grant, error) {
		_, err := Renew(id, durable.OS(), r.Dir, r.Vaults)(ctx, csr)
		if err != nil {
			t.Fatal(err)
		}
		return pki.Grant{}, errLost
	}
	if err := renewOnce(in.within(), id, lost); err != errLost {
		t.Fatal(err)
	}
	for range 2 {
		if err := in.renew(id, r); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, in.renew(stolen, Request{Dir: copied, Vaults: r.Vaults}), homeward.Forbidden, "newer certificate")
	var err error
	for range maxCertificates {
		if err = in.renew(id, r); err != nil {
			break
		}
	}
	wantKind(t, err, homeward.Busy, "certificates of it are valid")
}

func TestRenew_ARestoredVaultTakesItsNodesBack(t *testing.T) {
	in := newInstallation(t)
	id, r := in.enrolled(agent1)
	yesterday := in.node("agent-1")
	if err := in.renew(id, r); err != nil {
		t.Fatal(err)
	}
	in.store.nodes.all["agent-1"] = yesterday
	if err := in.renew(id, r); err != nil {
		t.Fatal(err)
	}
}

// An expired certificate may renew, a revoked one may not, and neither may do
// anything else.
func TestRenew_ExpiredAndRevoked(t *testing.T) {
	in := newInstallation(t)
	_, r := in.enrolled(agent1)
	old := filepath.Join(t.TempDir(), "old")
	if err := in.authority.Issue(pki.Request{Peer: agent1, From: time.Now().Add(-4 * time.Minute), Lifetime: time.Minute}, old); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(t.TempDir(), "x"), os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	lapsed := in.load(old)
	if err := in.renew(lapsed, Request{Dir: old, Vaults: r.Vaults}); err != nil {
		t.Fatal(err)
	}
	if time.Until(lapsed.Expires()) < time.Hour {
		t.Errorf("still expires at %v", lapsed.Expires())
	}
	_, err := in.store.nodes.Change(t.Context(), "agent-1", func(n *vault.Node) error { n.State = vault.NodeRevoked; return nil })
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, in.renew(lapsed, Request{Dir: old, Vaults: r.Vaults}), homeward.Forbidden, "revoked")
	if err := in.authority.Revoke(old); err != nil {
		t.Fatal(err)
	}
	if err := in.authority.Distribute(in.vaultDir); err != nil {
		t.Fatal(err)
	}
	wantKind(t, in.renew(lapsed, Request{Dir: old, Vaults: r.Vaults}), homeward.Unauthentic, "refused")
}

func TestRenew_Strangers(t *testing.T) {
	in := newInstallation(t)
	unknown := filepath.Join(t.TempDir(), "unknown")
	if err := in.authority.Issue(pki.Request{Peer: agent1}, unknown); err != nil {
		t.Fatal(err)
	}
	wantKind(t, in.renew(in.load(unknown), Request{Dir: unknown, Vaults: []string{in.addr}}), homeward.Forbidden, "does not know this node")
	csr, err := pki.NewCSR(durable.OS(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = post(in.within(), pki.PinnedTLS(in.authority.Fingerprint(), pki.Vault), in.addr, renewPath, RenewRequest{CSR: csr})
	wantKind(t, err, homeward.Unauthentic, "no certificate")
	_, _, err = post(in.within(), pki.PinnedTLS(in.authority.Fingerprint(), pki.Vault), in.addr, "/elsewhere", RenewRequest{})
	wantKind(t, err, homeward.NotFound)
}

func TestServer_BadBodies(t *testing.T) {
	in := newInstallation(t)
	config := pki.PinnedTLS(in.authority.Fingerprint(), pki.Vault)
	send := func(body []byte) int {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		resp, err := client.Post("https://"+in.addr+nodePath, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var problem struct{ Kind, Remedy string }
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || problem.Remedy == "" {
			t.Errorf("%.40s: %+v %v", body, problem, err)
		}
		return resp.StatusCode
	}
	good := in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"}).Reveal()
	for _, body := range []string{
		"", "{", "[]", `{"token":"x"}`, `{"boss":true}`, `{"token":"` + good + `","role":"agent","name":"a/b"}`,
		`{"token":"` + good + `","role":"agent","name":"a","csr":"AAAA"}`,
		`{"token":"` + good + `","role":"agent","name":"a","addresses":[{"host":"nowhere","purpose":"production"}]}`,
		`{"token":"` + good + `","role":"agent","name":"a","addresses":[{"host":"h:1","purpose":"fun"}]}`,
		`{"token":"` + good + `"} {}`, `{"token":"` + strings.Repeat("x", MaxBody) + `"}`,
	} {
		if code := send([]byte(body)); code != http.StatusBadRequest {
			t.Errorf("%.60s: status %d", body, code)
		}
	}
}

func TestCreateToken_Refusals(t *testing.T) {
	in := newInstallation(t)
	for field, r := range map[string]vault.EnrolmentRequest{
		"role":     {Role: "boss", Site: "home"},
		"vault":    {Role: pki.Vault, Site: "home"},
		"site":     {Role: pki.Agent},
		"name":     {Role: pki.Agent, Site: "home", Node: "a b"},
		"lifetime": {Role: pki.Agent, Site: "home", Lifetime: MaxTokenLifetime + 1},
	} {
		_, err := in.server.CreateToken(t.Context(), r)
		wantKind(t, err, homeward.Invalid, field)
	}
	if len(in.store.enrolments.all) != 0 {
		t.Error("a refused token was entered")
	}
}

func TestServer_IsNotForOtherProtocols(t *testing.T) {
	in := newInstallation(t)
	config := pki.PinnedTLS(in.authority.Fingerprint(), pki.Vault)
	config.NextProtos = []string{"h2"}
	if conn, err := tls.Dial("tcp", in.addr, config); err == nil {
		conn.Close()
		t.Error("h2 was taken")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(pki.Fingerprint{1}).Reveal())
	f.Add("hw1.0123456789abcdef.AA.AA")
	f.Add("hw1...")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			if homeward.KindOf(err) != homeward.Invalid {
				t.Fatalf("kind %s: %v", homeward.KindOf(err), err)
			}
			return
		}
		if token.Reveal() != strings.TrimSpace(text) {
			t.Fatalf("%q reads as %q", text, token.Reveal())
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"token":"x","csr":"AA==","role":"agent","name":"a","addresses":[{"host":"a:1","purpose":"production"}]}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r NodeRequest
		if err := decode(bytes.NewReader(data), &r); err != nil {
			if homeward.KindOf(err) != homeward.Invalid || homeward.RemedyOf(err) == "" {
				t.Fatalf("kind %s: %v", homeward.KindOf(err), err)
			}
			return
		}
		if err := r.validate(); err != nil && homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("kind %s: %v", homeward.KindOf(err), err)
		}
	})
}
