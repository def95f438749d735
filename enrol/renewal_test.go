package enrol

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// However often the answer is lost, the node asks for the same key again and gets it.
func TestRenew_ManyLostAnswers(t *testing.T) {
	in := newInstallation(t)
	id, r := in.enrolled(agent1)
	lost := func(ctx context.Context, csr []byte) (pki.Grant, error) {
		if _, err := Renew(id, durable.OS(), r.Dir, r.Vaults)(ctx, csr); err != nil {
			t.Fatal(err)
		}
		return pki.Grant{}, errLost
	}
	for range 4 {
		if err := renewOnce(in.within(), id, lost); err != errLost {
			t.Fatal(err)
		}
	}
	if err := in.renew(id, r); err != nil {
		t.Fatal(err)
	}
}

// The vault's own certificate goes on naming the hosts that it is reached under.
func TestBySelf_KeepsNames(t *testing.T) {
	in := newInstallation(t)
	dir := filepath.Join(t.TempDir(), "named")
	asked := pki.Request{Peer: pki.Peer{Role: pki.Vault, Name: "v1"}, DNSNames: []string{"vault.example"}, Addresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if err := in.authority.Issue(asked, dir); err != nil {
		t.Fatal(err)
	}
	id := in.load(dir)
	if err := renewOnce(in.within(), id, BySelf(in.authority, id)); err != nil {
		t.Fatal(err)
	}
	if got := id.Request(); len(got.DNSNames) != 1 || len(got.Addresses) != 1 || !got.Addresses[0].Equal(asked.Addresses[0]) {
		t.Errorf("it is for %v and %v now", got.DNSNames, got.Addresses)
	}
}

// Who sends the body of a request slowly keeps nobody else waiting.
func TestServer_SlowBodiesTakeNoPlace(t *testing.T) {
	in := newInstallation(t)
	config := pki.PinnedTLS(in.authority.Fingerprint(), pki.Vault)
	config.NextProtos = []string{http1}
	for range atOnce {
		conn, err := tls.Dial("tcp", in.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// "100 Continue" tells that the server waits for the body.
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: v\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n", nodePath)
		if err == nil {
			err = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		}
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 12))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	in.enrolled(agent1)
}

// A node's address becomes part of the URL that its peers are told.
func TestValidateAddresses_HostsOnly(t *testing.T) {
	for _, host := range []string{"a/b:1", "u@a:1", "a?b:1", "a#b:1", "a b:1", "a%62:1", "a\\b:1", "a\nb:1", "[a/b]:1", "[fe80::1%eth0]:1", "a:+1"} {
		err := ValidateAddresses([]vault.Address{{Host: host, Purpose: vault.Production}})
		wantKind(t, err, homeward.Invalid, "addresses")
	}
	for _, host := range []string{"10.0.0.1:1", "[fe80::1]:7443", "mt.example.org:7443", "MT_1:65535"} {
		if err := ValidateAddresses([]vault.Address{{Host: host, Purpose: vault.Production}}); err != nil {
			t.Error(err)
		}
	}
}

// poor is a listener that cannot accept at first, for too many files are open.
type poor struct {
	net.Listener
	left int
}

func (p *poor) Accept() (net.Conn, error) {
	if p.left--; p.left >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return p.Listener.Accept()
}

// Too many open files are no reason to end: that passes.
func TestSplit_OutlivesExhaustion(t *testing.T) {
	in := newInstallation(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	enrolment, rest := Split(&poor{ln, 3})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.server.Serve(ctx, enrolment) }()
	r := in.request(in.token(vault.EnrolmentRequest{Role: pki.Agent, Site: "home"}), agent1)
	r.Vaults = []string{ln.Addr().String()}
	if err := Enrol(in.within(), r); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = rest.Close()
	_ = enrolment.Close()
}
