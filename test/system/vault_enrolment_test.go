package system

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Tokens admit one node, of one role, at one site, in time; and certificates are those
// of their node alone, until it is revoked.
func TestVaultEnrolment(t *testing.T) {
	t.Parallel()
	e := found(t, lab.Plan{})
	for _, site := range []string{"home", "away"} {
		_, err := e.vault.PutSite(e.ctx, vault.SiteRequest{Name: site})
		e.must(err)
	}
	good := e.token(pki.Agent, "home", "")
	first := e.newcomer(pki.Agent, "first", good)
	e.must(first.Start(e.ctx, e.Executable))
	e.admitted("first", vault.NodeReady)

	brief, err := e.vault.CreateEnrolment(e.ctx, vault.EnrolmentRequest{Role: pki.Agent, Site: "home", Lifetime: time.Second})
	e.must(err)
	wait := time.NewTimer(time.Until(brief.Expires) + 100*time.Millisecond)
	defer wait.Stop()
	<-wait.C
	forged := e.token(pki.Agent, "home", "")
	parts := strings.Split(forged, ".")
	parts[2] = strings.Split(e.token(pki.Agent, "home", ""), ".")[2]
	for what, c := range map[string]struct {
		role        pki.Role
		name, token string
	}{
		"a token that was used":    {pki.Agent, "second", good},
		"a token that has expired": {pki.Agent, "second", brief.Secret},
		"a forged token":           {pki.Agent, "second", strings.Join(parts, ".")},
		"a token of another role":  {pki.ProcessServer, "second", e.token(pki.Agent, "home", "")},
		"a token of another name":  {pki.Agent, "second", e.token(pki.Agent, "home", "third")},
		"a name that is taken":     {pki.Agent, "first", e.token(pki.Agent, "home", "")},
		"a token of another site":  {pki.ConfigurationServer, "second", e.token(pki.ConfigurationServer, "away", "")},
	} {
		e.refusedToStart(what, e.newcomer(c.role, c.name, c.token))
	}
	if _, err := e.vault.Node(e.ctx, "second"); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("a node that was refused is known: %v", err)
	}
	e.revoked(first)
	e.othersCertificate()
}

func (e *estate) token(role pki.Role, site, node string) string {
	e.t.Helper()
	token, err := e.vault.CreateEnrolment(e.ctx, vault.EnrolmentRequest{Role: role, Site: site, Node: node})
	e.must(err)
	return token.Secret
}

// newcomer is a role that was never enrolled.
func (e *estate) newcomer(role pki.Role, name, token string) *lab.Program {
	e.t.Helper()
	dir, err := os.MkdirTemp(e.Dir, "n")
	e.must(err)
	args := []string{string(role), "--dir", dir, "--vault", e.Vault.Flag("--listen-nodes"), "--node", name, "--json", "--with-parent"}
	switch role {
	case pki.Agent:
		args = append(args, "--live", filepath.Join(dir, "live"))
	case pki.ConfigurationServer:
		args = append(args, "--site", "home", "--datastore", filepath.Join(dir, "disks"), "--guest", "builtin")
	}
	p := &lab.Program{Name: name, Args: args, LogFile: dir + ".log"}
	if token != "" {
		p.Env = []string{"HOMEWARD_ENROLMENT_TOKEN=" + token}
	}
	return p
}

func (e *estate) admitted(name string, want vault.NodeState) {
	e.t.Helper()
	e.eventually("node "+name+" to be "+string(want), func() (bool, error) {
		n, err := e.vault.Node(e.ctx, name)
		return n.State == want, err
	})
}

// refusedToStart runs a role that must end by itself, with an error that says why.
func (e *estate) refusedToStart(what string, p *lab.Program) {
	e.t.Helper()
	cmd := exec.CommandContext(e.ctx, binary, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	e.must(err)
	e.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(20 * time.Second):
		e.must(in.Close())
		e.t.Errorf("%s: the role goes on: %v %s", what, <-ended, out.Bytes())
		return
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !bytes.Contains(out.Bytes(), []byte(`"remedy"`)) {
		e.t.Errorf("%s: %v: %s", what, err, out.Bytes())
	}
}

// revoked has a node leave for good: not by staying, not by starting again.
func (e *estate) revoked(p *lab.Program) {
	e.t.Helper()
	_, err := e.vault.RevokeNode(e.ctx, p.Name)
	e.must(err)
	for range 2 {
		e.eventually("the revoked node to be turned away", func() (bool, error) {
			text, err := p.Log()
			return strings.Contains(text, "revoked") || strings.Contains(text, "refused this node"), err
		})
		e.admitted(p.Name, vault.NodeRevoked)
		p.Kill()
		e.must(os.Truncate(p.LogFile, 0))
		p.Env = nil
		e.must(p.Start(e.ctx, e.Executable))
	}
	p.Kill()
}

// othersCertificate has one role start with the identity of another node.
func (e *estate) othersCertificate() {
	e.t.Helper()
	honest := e.newcomer(pki.ProcessServer, "honest", e.token(pki.ProcessServer, "home", ""))
	e.must(honest.Start(e.ctx, e.Executable))
	e.admitted("honest", vault.NodeReady)
	thief := e.newcomer(pki.Agent, "thief", "")
	thief.Args = append(thief.Args, "--identity", filepath.Join(honest.Dir(), "identity"))
	e.refusedToStart("the identity of a node of another role", thief)
	honest.Stop()
}

// A certificate of a minute is renewed while the guest behind the agent writes, again
// and again without a pause that it would notice as more than the agent's restart.
func TestVaultRenewsACertificateUnderLoad(t *testing.T) {
	t.Parallel()
	e := settle(t, lab.Plan{Outlive: true}, "web01")
	dir := filepath.Join(e.home.Agent.Dir(), "identity")
	e.home.Agent.Kill()
	e.must(os.RemoveAll(dir))
	ca := e.Vault.Flag("--dir")
	e.must(e.Operator.Ask(e.ctx, &struct{}{}, "pki", "issue", "--ca", filepath.Join(ca, "ca"), "--sealing-key", filepath.Join(ca, "authority.key"), "--role", "agent", "--name", "agent-home", "--out", dir, "--lifetime", "30s"))
	e.start(e.home.Agent)
	began := time.Now()
	e.write(10)
	e.eventually("its certificate to be renewed", func() (bool, error) {
		n, err := e.vault.Node(e.ctx, "agent-home")
		return n.Expires.After(began.Add(time.Hour)), err
	})
	wait := time.NewTimer(time.Until(began.Add(32 * time.Second))) // the first one has expired
	defer wait.Stop()
	<-wait.C
	e.write(50)
	e.restart(e.away.Process) // the way is built anew, with the new certificate
	e.write(50)
	e.prove(e.guests[0])
	t.Logf("longest pause the guest saw: %v", e.guests[0].console.Pause(began).Round(time.Millisecond))
}

// restart kills a process and starts it again.
func (e *estate) restart(p *lab.Program) {
	e.t.Helper()
	p.Kill()
	e.start(p)
}
