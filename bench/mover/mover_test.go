package mover

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// Both protocols move bytes between processes, and the receiver wants to know who
// sends.
func TestMover(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if err := Identities(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, protocol := range []string{Ship, Bare} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		in, err := Receive(t.Context(), protocol, dir, address)
		if err != nil {
			t.Fatal(err)
		}
		in.Stderr = os.Stderr
		if err := in.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, address)
		if err := run(t, protocol, dir, address); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		if err := run(t, protocol, other, address); err == nil {
			t.Errorf("%s: a stranger's bytes are taken", protocol)
		}
		in.Process.Kill()
		in.Wait()
	}
}

func run(t *testing.T, protocol, dir, address string) error {
	out, err := Send(t.Context(), protocol, dir, address, 20<<20)
	if err != nil {
		t.Fatal(err)
	}
	said, err := out.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

func await(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // nothing tells when a child listens
	}
}
