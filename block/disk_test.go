package block_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

var ctx = context.Background()

// places are a directory on the local file system and one on tmpfs, which has no
// ZERO_RANGE, so that the fallback is met for real.
func places(t *testing.T) map[string]string {
	shm, err := os.MkdirTemp("/dev/shm", "homeward-block")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	return map[string]string{"disk": t.TempDir(), "tmpfs": shm}
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func must(t fataler, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, path string, size int64) block.Disk {
	t.Helper()
	d, err := block.OpenFile(ctx, "file:"+path, block.Mode{Size: size, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// Every disk behaves like a byte slice, holes and all.
func TestDisksAgainstModel(t *testing.T) {
	const size = 1<<20 + 512
	makers := map[string]func() block.Disk{
		"memory":    func() block.Disk { return block.NewMemory(size) },
		"powerloss": func() block.Disk { return powerloss.NewDisk(size) },
	}
	n := 0
	for name, dir := range places(t) {
		makers[name] = func() block.Disk {
			n++
			return create(t, filepath.Join(dir, fmt.Sprint(name, n)), size)
		}
	}
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				d := make()
				defer d.Close()
				walkDisk(t, d)
			})
		})
	}
}

func walkDisk(t *rapid.T, d block.Disk) {
	model := make([]byte, d.Size())
	for range rapid.IntRange(1, 12).Draw(t, "steps") {
		off := rapid.Int64Range(0, d.Size()).Draw(t, "off")
		n := rapid.Int64Range(0, min(200<<10, d.Size()-off)).Draw(t, "n")
		part := model[off : off+n]
		switch op := rapid.IntRange(0, 4).Draw(t, "op"); op {
		case 0, 1:
			p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, int(n))
			write := d.WriteAt
			if f, ok := d.(block.FUAWriter); ok && op == 1 {
				write = f.WriteAtFUA
			}
			k, err := write(p, off)
			must(t, err)
			if int64(k) != n {
				t.Fatalf("wrote %d of %d", k, n)
			}
			copy(part, p)
		case 2, 3:
			must(t, d.Zero(off, n, op == 2))
			clear(part)
		case 4:
			must(t, d.Flush())
		}
		got := make([]byte, n)
		_, err := d.ReadAt(got, off)
		must(t, err)
		if !bytes.Equal(got, part) {
			t.Fatalf("%d bytes at %d are wrong", n, off)
		}
		at := off
		for e, err := range block.Extents(d, off, n) {
			must(t, err)
			if e.Off != at || e.Len <= 0 || e.Hole && !e.Zero {
				t.Fatalf("extent %+v does not follow %d", e, at)
			}
			at += e.Len
			if e.Zero && !block.IsZero(model[e.Off:at]) {
				t.Fatalf("extent %+v holds data", e)
			}
		}
		if at != off+n {
			t.Fatalf("extents end at %d, want %d", at, off+n)
		}
	}
	checkOutside(t, d)
}

func checkOutside(t *rapid.T, d block.Disk) {
	for _, r := range [][2]int64{{-1, 1}, {d.Size(), 1}, {d.Size() - 1, 2}, {1 << 62, 8}} {
		p := make([]byte, r[1])
		_, read := d.ReadAt(p, r[0])
		_, write := d.WriteAt(p, r[0])
		for _, err := range []error{read, write, d.Zero(r[0], r[1], true), d.Zero(0, -1, false)} {
			if homeward.KindOf(err) != homeward.Invalid {
				t.Fatalf("%v: %v", r, err)
			}
		}
		for _, err := range block.Extents(d, r[0], r[1]) {
			if homeward.KindOf(err) != homeward.Invalid {
				t.Fatalf("extents of %v: %v", r, err)
			}
		}
	}
}

func allocated(t *testing.T, path string) int64 {
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Blocks * 512
}

func TestSparse(t *testing.T) {
	for name, dir := range places(t) {
		t.Run(name, func(t *testing.T) {
			const size = 64 << 20
			path := filepath.Join(dir, "image")
			d := create(t, path, size)
			if n := allocated(t, path); n > 1<<20 {
				t.Fatalf("a new image takes %d bytes", n)
			}
			_, err := d.WriteAt(bytes.Repeat([]byte{7}, 8<<20), 16<<20)
			must(t, err, d.Flush())
			var found []block.Extent
			for e, err := range block.Extents(d, 0, size) {
				must(t, err)
				found = append(found, e)
			}
			want := []block.Extent{{0, 16 << 20, true, true}, {16 << 20, 8 << 20, false, false}, {24 << 20, 40 << 20, true, true}}
			if fmt.Sprint(found) != fmt.Sprint(want) {
				t.Fatalf("extents %v, want %v", found, want)
			}
			must(t, d.Zero(16<<20, 4<<20, true), d.Flush())
			if n := allocated(t, path); n > 5<<20 {
				t.Fatalf("after punching, %d bytes are taken", n)
			}
			must(t, d.Zero(20<<20, 4<<20, false), d.Flush())
			if n := allocated(t, path); n < 4<<20 {
				t.Fatalf("zeroing gave room back: %d bytes are taken", n)
			}
			got := make([]byte, 8<<20)
			_, err = d.ReadAt(got, 16<<20)
			must(t, err)
			if !block.IsZero(got) {
				t.Fatal("what was zeroed is not zero")
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	file := func(name string, size int) string {
		must(t, os.WriteFile(path(name), make([]byte, size), 0o600))
		return path(name)
	}
	must(t, unix.Mkfifo(path("fifo"), 0o600))
	good := file("good", 8192)
	all := block.LocalOpeners()
	for _, c := range []struct {
		ref  string
		mode block.Mode
		kind homeward.Kind
		says string
	}{
		{"file:" + path("none"), block.Mode{}, homeward.NotFound, "none"},
		{"file:" + path("none/x"), block.Mode{Create: true, Size: 4096}, homeward.NotFound, "none"},
		{"file:" + path("none"), block.Mode{Create: true}, homeward.Invalid, "size 0"},
		{"file:" + path("none"), block.Mode{Create: true, Size: 1000}, homeward.Invalid, "size 1000"},
		{"file:" + dir, block.Mode{}, homeward.Invalid, "directory"},
		{"file:" + path("fifo"), block.Mode{}, homeward.Invalid, "no regular file"},
		{"file:/dev/null", block.Mode{}, homeward.Invalid, "device:"},
		{"device:" + good, block.Mode{}, homeward.Invalid, "file:"},
		{"device:" + dir, block.Mode{}, homeward.Invalid, "directory"},
		{"device:/dev/null", block.Mode{}, homeward.Invalid, "no block device"},
		{"device:/dev/none", block.Mode{}, homeward.NotFound, "none"},
		{"device:/dev/none", block.Mode{Create: true, Size: 512}, homeward.Invalid, "created"},
		{"file:" + good, block.Mode{Size: 4096}, homeward.Invalid, "8192 bytes, expected are 4096"},
		{"file:" + file("odd", 1000), block.Mode{}, homeward.Invalid, "multiple of 512"},
		{"file:" + file("empty", 0), block.Mode{}, homeward.Invalid, "multiple of 512"},
		{"file:relative", block.Mode{}, homeward.Invalid, "absolute"},
		{"qcow2:" + good, block.Mode{}, homeward.Unsupported, "device:, file:"},
		{good, block.Mode{}, homeward.Unsupported, "device:, file:"},
	} {
		d, err := all.Open(ctx, c.ref, c.mode)
		if homeward.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.says) || homeward.RemedyOf(err) == "" {
			t.Errorf("%s %+v: %v (%v)", c.ref, c.mode, err, homeward.KindOf(err))
		}
		if err == nil {
			must(t, d.Close())
		}
	}
	if list, _ := filepath.Glob(path("*.tmp")); len(list) != 0 {
		t.Errorf("left behind: %v", list)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := all.Open(canceled, "file:"+good, block.Mode{}); homeward.KindOf(err) != homeward.Canceled {
		t.Errorf("canceled: %v", err)
	}
}

func TestOpenWithoutPermission(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, make([]byte, 4096), 0o400))
	if os.Geteuid() == 0 { // root may do all: be somebody else, on this thread only
		runtime.LockOSThread()
		must(t, unix.Setfsuid(65534))
		defer func() {
			must(t, unix.Setfsuid(0))
			runtime.UnlockOSThread()
		}()
	}
	_, err := block.OpenFile(ctx, path, block.Mode{})
	if homeward.KindOf(err) != homeward.Forbidden || homeward.RemedyOf(err) == "" {
		t.Fatalf("%v", err)
	}
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, bytes.Repeat([]byte{9}, 4096), 0o600))
	d := create(t, path, 4096)
	p := make([]byte, 1)
	if _, err := d.ReadAt(p, 0); err != nil || p[0] != 9 {
		t.Fatalf("the image was made anew: %v, %v", p, err)
	}
	if _, err := block.OpenFile(ctx, path, block.Mode{Create: true, Size: 8192, NoLock: true}); homeward.KindOf(err) != homeward.Invalid {
		t.Fatalf("another size: %v", err)
	}
}

func TestLocking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	writer := create(t, path, 4096)
	for _, m := range []block.Mode{{}, {ReadOnly: true}} {
		if _, err := block.OpenFile(ctx, path, m); homeward.KindOf(err) != homeward.InUse || homeward.RemedyOf(err) == "" {
			t.Fatalf("%+v beside a writer: %v", m, err)
		}
	}
	unlocked, err := block.OpenFile(ctx, path, block.Mode{NoLock: true})
	must(t, err, unlocked.Close(), writer.Close())

	one, err := block.OpenFile(ctx, path, block.Mode{ReadOnly: true})
	must(t, err)
	two, err := block.OpenFile(ctx, path, block.Mode{ReadOnly: true})
	must(t, err)
	if _, err := block.OpenFile(ctx, path, block.Mode{}); homeward.KindOf(err) != homeward.InUse {
		t.Fatalf("a writer beside readers: %v", err)
	}
	_, write := one.WriteAt([]byte{1}, 0)
	for _, err := range []error{write, one.Zero(0, 1, true)} {
		if homeward.KindOf(err) != homeward.Forbidden {
			t.Fatalf("a reader writes: %v", err)
		}
	}
	must(t, one.Flush(), one.Close(), two.Close(), two.Close())
	if _, err := one.ReadAt(make([]byte, 1), 0); homeward.KindOf(err) != homeward.Unavailable {
		t.Fatalf("a closed disk: %v", err)
	}
}

// TestMain also is the other process of TestLockedByAnotherProcess.
func holdLock(path string) {
	_, err := block.OpenFile(ctx, path, block.Mode{})
	fmt.Println("opened", err)
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestLockedByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, make([]byte, 4096), 0o600))
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "BLOCK_TEST_HOLD="+path)
	hold, err := other.StdinPipe()
	must(t, err)
	out, err := other.StdoutPipe()
	must(t, err, other.Start())
	answer := make([]byte, len("opened <nil>\n"))
	if _, err := io.ReadFull(out, answer); err != nil || string(answer) != "opened <nil>\n" {
		t.Fatalf("the other process says %q, %v", answer, err)
	}
	_, err = block.OpenFile(ctx, path, block.Mode{})
	if homeward.KindOf(err) != homeward.InUse || !strings.Contains(err.Error(), fmt.Sprintf("process %d", other.Process.Pid)) {
		t.Fatalf("locked by another process: %v", err)
	}
	must(t, other.Process.Kill())
	_ = other.Wait()
	_ = hold.Close()
	d, err := block.OpenFile(ctx, path, block.Mode{})
	must(t, err, d.Close())
}

// QEMU is the second user most likely met.
func TestLockingAgainstQEMU(t *testing.T) {
	tool, err := exec.LookPath("qemu-io")
	if err != nil {
		t.Fatalf("this test needs qemu-io: install qemu-utils: %v", err)
	}
	path := filepath.Join(t.TempDir(), "image")
	qemu := func(refused bool, what string, flags ...string) {
		t.Helper()
		args := append(flags, "-f", "raw", "-c", "read 0 512", path)
		out, err := exec.Command(tool, args...).CombinedOutput()
		if locked := strings.Contains(string(out), "lock"); locked != refused || (err != nil) != refused {
			t.Errorf("%s: %v: %s", what, err, out)
		}
	}
	writer := create(t, path, 1<<20)
	qemu(true, "QEMU writes beside our writer")
	qemu(true, "QEMU reads beside our writer", "-r")
	must(t, writer.Close())
	reader, err := block.OpenFile(ctx, path, block.Mode{ReadOnly: true})
	must(t, err)
	qemu(true, "QEMU writes beside our reader")
	qemu(false, "QEMU reads beside our reader", "-r")
	must(t, reader.Close())
	qemu(false, "QEMU alone")

	other := exec.Command(tool, "-f", "raw", path)
	hold, err := other.StdinPipe()
	must(t, err)
	out, err := other.StdoutPipe()
	must(t, err, other.Start())
	_, err = io.ReadFull(out, make([]byte, len("qemu-io> "))) // it has opened the image
	must(t, err)
	for _, m := range []block.Mode{{}, {ReadOnly: true}} {
		if _, err := block.OpenFile(ctx, path, m); homeward.KindOf(err) != homeward.InUse || !strings.Contains(err.Error(), "qemu-io") {
			t.Errorf("%+v beside QEMU: %v", m, err)
		}
	}
	must(t, hold.Close())
	_, _ = io.Copy(io.Discard, out)
	must(t, other.Wait())
}

func TestResized(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	d := create(t, path, 1<<20)
	must(t, block.Resized(d), block.Resized(block.NewMemory(512)))
	must(t, os.Truncate(path, 2<<20))
	if err := block.Resized(d); homeward.KindOf(err) != homeward.Conflict || !strings.Contains(err.Error(), "2097152") {
		t.Fatalf("grown: %v", err)
	}
	must(t, d.Flush())
	must(t, os.Truncate(path, 4096))
	if err := block.Resized(d); homeward.KindOf(err) != homeward.Conflict {
		t.Fatalf("shrunk: %v", err)
	}
	if _, err := d.ReadAt(make([]byte, 4096), 4096); homeward.KindOf(err) != homeward.IO || errors.Is(err, io.EOF) {
		t.Fatalf("read of what was cut off: %v", err)
	}
	if err := d.Flush(); homeward.KindOf(err) != homeward.IO {
		t.Fatalf("flush of a shrunken disk: %v", err)
	}
}

func TestRequestsAllocateNothing(t *testing.T) {
	d := create(t, filepath.Join(t.TempDir(), "image"), 1<<20)
	p := make([]byte, 4096)
	for name, request := range map[string]func(){
		"read":  func() { _, _ = d.ReadAt(p, 4096) },
		"write": func() { _, _ = d.WriteAt(p, 4096) },
		"fua":   func() { _, _ = d.(block.FUAWriter).WriteAtFUA(p, 4096) },
		"zero":  func() { _ = d.Zero(4096, 4096, true) },
	} {
		if n := testing.AllocsPerRun(20, request); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestFileSystemFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	d := create(t, path, 8<<20)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: old.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old)) }()
	_, err := d.WriteAt(make([]byte, 4096), 4<<20)
	if homeward.KindOf(err) != homeward.NoSpace || homeward.RemedyOf(err) == "" || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v", err)
	}
}
