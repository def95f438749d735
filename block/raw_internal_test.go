package block

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
)

// plain is a file system without holes and without any way to zero.
type plain struct {
	imageFile
	err   error
	calls int
}

func (p *plain) holes() bool { return false }

func (p *plain) zero(int, int64, int64, bool) error {
	p.calls++
	return p.err
}

func openOn(t *testing.T, m medium, size int64) *raw {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "image"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := &raw{fd: fd, medium: m, name: f.Name(), bytes: size}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestZeroWhereTheFileSystemCannot(t *testing.T) {
	for _, c := range []struct {
		err   error
		calls int // of two: an unsupported way is tried once
	}{{unix.EOPNOTSUPP, 1}, {unix.ENOSYS, 1}, {unix.ENOTTY, 1}, {unix.EINVAL, 2}} {
		fs := &plain{err: c.err}
		r := openOn(t, fs, 4<<20)
		ones := bytes.Repeat([]byte{1}, 4<<20)
		if _, err := r.WriteAt(ones, 0); err != nil {
			t.Fatal(err)
		}
		const off, n = 1000, 2<<20 + 777
		for range 2 {
			if err := r.Zero(off, n, true); err != nil {
				t.Fatal(err)
			}
		}
		if fs.calls != c.calls {
			t.Errorf("%v: tried %d times, want %d", c.err, fs.calls, c.calls)
		}
		clear(ones[off : off+n])
		got := make([]byte, 4<<20)
		if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, ones) {
			t.Fatalf("%v: not exactly the range was zeroed: %v", c.err, err)
		}
		for e, err := range r.Extents(5, 100) {
			if err != nil || e != (Extent{Off: 5, Len: 100}) {
				t.Errorf("extent %+v, %v", e, err)
			}
		}
	}
	r := openOn(t, &plain{err: unix.ENOSPC}, 4096)
	if err := r.Zero(0, 4096, false); homeward.KindOf(err) != homeward.NoSpace {
		t.Errorf("a full file system: %v", err)
	}
}

func TestFUAWithoutDsync(t *testing.T) {
	r := openOn(t, imageFile{}, 4096)
	r.noDsync.Store(true)
	if n, err := r.WriteAtFUA([]byte("ab"), 7); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	p := make([]byte, 2)
	if _, err := r.ReadAt(p, 7); err != nil || string(p) != "ab" {
		t.Fatalf("%q, %v", p, err)
	}
}

// I-10: a flush that failed is never made good by a later one that succeeds.
func TestFailedFlushPoisons(t *testing.T) {
	r := openOn(t, imageFile{}, 4096)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	healthy := r.fd
	r.fd = pipe[1] // cannot be synced
	first := r.Flush()
	r.fd = healthy
	unix.Close(pipe[1])
	if first == nil {
		t.Fatal("a pipe was flushed")
	}
	for range 2 {
		if err := r.Flush(); err == nil || homeward.RemedyOf(err) == "" {
			t.Fatalf("flushed after a failed flush: %v", err)
		}
	}
	if _, err := r.WriteAtFUA([]byte{1}, 0); err == nil {
		t.Fatal("a FUA write was believed after a failed flush")
	}
	if _, err := r.WriteAt([]byte{1}, 0); err != nil {
		t.Fatalf("a plain write promises nothing and goes on: %v", err)
	}
}
