package bench

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/capture"
	"github.com/homeward-dr/homeward/nbd"
)

// fill makes an image without holes.
func fill(b *testing.B, dir string) string {
	path := filepath.Join(dir, "image.raw")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	for range imageSize / len(p) {
		if _, err := f.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			b.Error(err)
		}
	})
	return path
}

// serveOurs serves the image as the agent does.
func serveOurs(b *testing.B, path string) subject {
	// nbdkit opens the same image: no lock.
	d, err := block.OpenFile(b.Context(), "file:"+path, block.Mode{NoLock: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	})
	switch *what {
	case "bare":
	case "captured", "cutting":
		m := capturing(b, d)
		d = m.Disk(0)
		if *what == "cutting" {
			cutting(b, m)
		}
	default:
		b.Fatalf("-subject %q: give bare, captured or cutting", *what)
	}
	s := nbd.NewServer(nbd.ServerOptions{})
	if err := s.Add(nbd.Export{Name: "d", Disk: d, Exclusive: true}); err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(b.TempDir(), "ours")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	b.Cleanup(func() {
		if err := errors.Join(s.Close(context.Background()), <-done); err != nil {
			b.Error(err)
		}
	})
	return subject{nbd.UnixURI(socket, "d").String(), os.Getpid()}
}

// capturing is a fresh machine of one disk, none of its cuts frozen.
func capturing(b *testing.B, d block.Disk) *capture.Machine {
	live, err := os.MkdirTemp("/dev/shm", "homeward-bench-")
	if err != nil {
		b.Fatal(err)
	}
	m, err := capture.Open(b.Context(), capture.Config{Disks: []block.Disk{d}, Dir: b.TempDir(), LiveDir: live})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(m.Close(context.Background()), os.RemoveAll(live)); err != nil {
			b.Error(err)
		}
	})
	return m
}

// cutting cuts each second and releases at once, as if all had been shipped.
func cutting(b *testing.B, m *capture.Machine) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := cutOnce(m); err != nil {
					b.Error(err)
				}
			case <-stop:
				return
			}
		}
	}()
	b.Cleanup(func() {
		close(stop)
		<-stopped
		b.Logf("cut hold, 99th percentile: %v", m.Stats().HoldP99)
	})
}

func cutOnce(m *capture.Machine) error {
	c, err := m.Cut(context.Background(), capture.CutOptions{})
	if err != nil {
		return err
	}
	c.Shipped(0, 0, imageSize/block.Size)
	if err := c.Spooled(); err != nil {
		return err
	}
	return c.Applied()
}

func serveNbdkit(b *testing.B, path string) subject {
	socket := filepath.Join(b.TempDir(), "nbdkit")
	cmd := exec.Command("nbdkit", "-f", "-U", socket, "file", path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatalf("nbdkit is missing: apt-get install nbdkit (%v)", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
			return subject{nbd.UnixURI(socket, "").String(), cmd.Process.Pid}
		}
		select {
		case <-b.Context().Done():
			b.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
