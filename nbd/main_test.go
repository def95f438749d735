package nbd

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward/block"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tool runs a program that judges us and returns what it printed. A program that
// is not installed fails the test.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := toolErr(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// toolErr is tool for programs that may fail.
func toolErr(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: apt-get install nbdkit libnbd-bin python3-libnbd fio qemu-utils gnutls-bin (%v)", name, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.TempDir() // fio leaves files where it runs
	// nbdsh starts python3 by name, and its bindings belong to the system's.
	cmd.Env = append(os.Environ(), "PATH=/usr/bin:"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// background starts a server program, waits until its socket answers, and ends
// it with the test.
func background(t testing.TB, name, socket string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is missing: apt-get install nbdkit qemu-utils (%v)", name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-ended
	})
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s %s ended: %v", name, strings.Join(args, " "), err)
		case <-time.After(5 * time.Millisecond): // it tells nobody when it is ready
		}
	}
}

// rig is a server on a unix socket.
type rig struct {
	*Server
	socket string
}

func (r rig) uri(export string) string { return UnixURI(r.socket, export).String() }

// serve starts a server with exports, and ends it with the test.
func serve(t testing.TB, o ServerOptions, exports ...Export) rig {
	t.Helper()
	if testing.Verbose() && o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s := NewServer(o)
	for _, e := range exports {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	r := rig{s, filepath.Join(t.TempDir(), "s")}
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	return r
}

// serveOn serves l until the test ends.
func serveOn(t testing.TB, s *Server, l net.Listener) {
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// image makes a raw file of size bytes and opens it.
func image(t testing.TB, size int64) (string, block.Disk) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.raw")
	d, err := block.OpenFile(t.Context(), "file:"+path, block.Mode{Create: true, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return path, d
}

// pattern fills p with bytes that tell where they are from.
func pattern(p []byte, seed int64) []byte {
	for i := range p {
		p[i] = byte(seed + int64(i)*7 + int64(i)>>8)
	}
	return p
}
