package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Both shapes carry what they are given, count it, and are gone afterwards.
func TestNetwork(t *testing.T) {
	if err := Able(); err != nil {
		t.Fatalf("this test needs root and iproute2 (hack/deps.sh): %v", err)
	}
	dead := leftover(t)
	n, err := New(t.Context(), "home", "away")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(netns, dead)); !os.IsNotExist(err) {
		t.Errorf("the namespace of a dead process stayed: %v", err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(fmt.Sprintf("%s/%s%d*", netns, prefix, os.Getpid())); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}()
	const size = 8 << 20
	for _, shape := range []Shape{Plain(), Gigabit(), Wide()} {
		if err := n.Join(t.Context(), shape); err != nil {
			t.Fatal(err)
		}
		before, err := n.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		carry(t, n, size)
		after, err := n.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// 40 bytes of headers or more for each 1,460; acknowledgements; what was lost.
		sent := after.Since(before)
		if over := float64(sent.Data) / size; over < 1.027 || over > 1.5 {
			t.Errorf("%s: %d bytes on the wire for %d", shape.Name, sent.Data, size)
		}
		t.Logf("%s (%s): %v, %d bytes on the wire", shape.Name, n.Congestion, time.Since(began), sent.Data)
		if least := 2 * shape.Delay; time.Since(began) < least {
			t.Errorf("%s: faster than its delay", shape.Name)
		}
	}
	talk(t, n)
}

// leftover makes a namespace that a process that is gone might have left.
func leftover(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s%d-home", prefix, cmd.Process.Pid)
	if err := run(t.Context(), "ip", "netns", "add", name); err != nil {
		t.Fatal(err)
	}
	return name
}

// carry sends bytes from the second site to the first.
func carry(t *testing.T, n *Network, size int64) {
	t.Helper()
	ln, err := n.Sites[0].Listen(n.Sites[0].Free())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := n.Sites[1].Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.CopyN(c, zero{}, size) // the receiver counts
		_ = c.Close()
	}()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := io.Copy(io.Discard, in); err != nil || got != size {
		t.Fatalf("%d bytes arrived, %v", got, err)
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { return len(p), nil }

// talk has a program in each site reach the controller, and counts that apart.
func talk(t *testing.T, n *Network) {
	t.Helper()
	ln, err := net.Listen("tcp", n.Controller()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	before, err := n.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range n.Sites {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		cmd := exec.CommandContext(ctx, "bash", "-c", fmt.Sprintf("echo from %s >/dev/tcp/%s/%s", s.Name, host, port))
		if err := s.Start(cmd); err != nil {
			t.Fatal(err)
		}
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(c)
		if strings.TrimSpace(string(said)) != "from "+s.Name {
			t.Errorf("%q", said)
		}
		c.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		cancel()
	}
	after, err := n.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sent := after.Since(before); sent.Control < 400 || sent.Data > 2000 {
		t.Errorf("control %d, data %d bytes", sent.Control, sent.Data)
	}
}
