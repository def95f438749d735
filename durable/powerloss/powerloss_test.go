package powerloss_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

func TestMain(m *testing.M) {
	powerloss.ReplayFromEnvironment()
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, fsys durable.FS, name string) durable.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	return f
}

func write(t testing.TB, f durable.File, data string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(data), off)
	must(t, err)
}

// after crashes many times and counts what outcome sees.
func after(t *testing.T, fsys *powerloss.FS, outcome func(*powerloss.FS) string) map[string]int {
	rng := powerloss.Rand(t)
	seen := map[string]int{}
	for range 400 {
		seen[outcome(fsys.Crash(rng))]++
	}
	return seen
}

func text(fsys durable.FS, path string) string {
	data, err := durable.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func TestSyncedStaysUnsyncedIsUndecided(t *testing.T) {
	fsys := powerloss.New()
	f := open(t, fsys, "/a")
	write(t, f, "old", 0)
	must(t, f.Sync(), fsys.SyncDir("/"))
	if seen := after(t, fsys, func(c *powerloss.FS) string { return text(c, "/a") }); seen["old"] != 400 {
		t.Fatalf("synced, but found %v", seen)
	}
	write(t, f, "new", 0)
	seen := after(t, fsys, func(c *powerloss.FS) string { return text(c, "/a") })
	if seen["old"] == 0 || seen["new"] == 0 || len(seen) != 2 {
		t.Fatalf("unsynced in one sector, but found %v", seen)
	}
	if got := text(fsys, "/a"); got != "new" {
		t.Fatalf("before the crash it reads %q", got)
	}
}

func TestPagesTearAndPersistOnTheirOwn(t *testing.T) {
	fsys := powerloss.New()
	f := open(t, fsys, "/a")
	must(t, f.Truncate(8192), f.Sync(), fsys.SyncDir("/"))
	_, err := f.WriteAt(bytes.Repeat([]byte{'x'}, 8192), 0)
	must(t, err)
	seen := after(t, fsys, func(c *powerloss.FS) string {
		data := text(c, "/a")
		var s []byte
		for _, at := range []int{0, 512, 4096} {
			s = append(s, "0x"[min(data[at], 1)])
		}
		return string(s)
	})
	if len(seen) != 8 {
		t.Fatalf("of 8 mixtures only %v were found", seen)
	}
}

func TestNamesAreUndecidedUntilSyncDir(t *testing.T) {
	fsys := powerloss.New()
	write(t, open(t, fsys, "/a"), "A", 0)
	f := open(t, fsys, "/a")
	must(t, f.Sync(), fsys.SyncDir("/"))
	must(t, fsys.Rename("/a", "/b"), fsys.MkdirAll("/d", 0o700))
	must(t, fsys.SyncDir("/"), fsys.Rename("/b", "/c"))
	seen := after(t, fsys, func(c *powerloss.FS) string { return text(c, "/b") + " " + text(c, "/c") })
	if seen["A absent"] == 0 || seen["absent A"] == 0 || len(seen) != 2 {
		t.Fatalf("a rename within a directory was not whole: %v", seen)
	}
	must(t, fsys.Rename("/c", "/d/c"))
	must(t, fsys.SyncDir("/"), fsys.SyncDir("/d"))
	if seen := after(t, fsys, func(c *powerloss.FS) string { return text(c, "/d/c") }); seen["A"] != 400 {
		t.Fatalf("synced in both directories, but found %v", seen)
	}
	must(t, fsys.Remove("/d/c"))
	seen = after(t, fsys, func(c *powerloss.FS) string { return text(c, "/d/c") })
	if seen["A"] == 0 || seen["absent"] == 0 {
		t.Fatalf("a removal was decided: %v", seen)
	}
}

func TestFailedSyncPoisonsAndLosesQuietly(t *testing.T) {
	fsys := powerloss.New()
	f := open(t, fsys, "/a")
	write(t, f, "old", 0)
	must(t, f.Sync(), fsys.SyncDir("/"))
	write(t, f, "new", 0)
	fsys.Fail(powerloss.OpSync, "a", 1, syscall.EIO)
	if err := f.Sync(); homeward.KindOf(err) != homeward.IO || !errors.Is(err, syscall.EIO) {
		t.Fatalf("the fault did not strike: %v", err)
	}
	if err := f.Sync(); homeward.KindOf(err) != homeward.IO {
		t.Fatalf("a second sync was believed: %v", err)
	}
	must(t, open(t, fsys, "/a").Sync()) // as on Linux: a new descriptor knows nothing
	if seen := after(t, fsys, func(c *powerloss.FS) string { return text(c, "/a") }); seen["old"] == 0 {
		t.Fatalf("a sync after a failed one persisted the page: %v", seen)
	}
	again := open(t, fsys, "/a")
	write(t, again, "new", 0)
	must(t, again.Sync())
	if seen := after(t, fsys, func(c *powerloss.FS) string { return text(c, "/a") }); seen["new"] != 400 {
		t.Fatalf("written again and synced, but found %v", seen)
	}
}

func TestFaults(t *testing.T) {
	fsys := powerloss.New()
	must(t, fsys.MkdirAll("/spool", 0o700))
	f := open(t, fsys, "/spool/x.undo")
	fsys.Fail(powerloss.OpWrite, "/spool/*.undo", 2, syscall.ENOSPC)
	write(t, f, "12", 0)
	n, err := f.WriteAt([]byte("3456"), 2)
	if n != 2 || homeward.KindOf(err) != homeward.NoSpace {
		t.Fatalf("the second write wrote %d bytes: %v", n, err)
	}
	write(t, f, "56", 4)
	if got := text(fsys, "/spool/x.undo"); got != "123456" {
		t.Fatalf("found %q", got)
	}
	fsys.Fail(powerloss.OpOpen, "*", 0, syscall.EIO)
	for range 2 {
		if _, err := fsys.OpenFile("/y", os.O_RDWR|os.O_CREATE, 0o600); homeward.KindOf(err) != homeward.IO {
			t.Fatal(err)
		}
	}
	fsys.Heal()
	open(t, fsys, "/y")

	until, done := make(chan struct{}), make(chan error)
	fsys.Hang(powerloss.OpSync, "x.undo", 1, until)
	go func() { done <- f.Sync() }()
	select {
	case err := <-done:
		t.Fatalf("it did not hang: %v", err)
	default:
	}
	close(until)
	must(t, <-done)
}

func TestKillKeepsTheCacheAndFreesLocks(t *testing.T) {
	fsys := powerloss.New()
	_, err := durable.LockFile(fsys, "/lock")
	must(t, err)
	f := open(t, fsys, "/a")
	write(t, f, "unsynced", 0)
	if _, err := durable.LockFile(fsys, "/lock"); homeward.KindOf(err) != homeward.InUse {
		t.Fatalf("locked twice: %v", err)
	}
	fsys.Kill()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("a dead process wrote: %v", err)
	}
	if got := text(fsys, "/a"); got != "unsynced" {
		t.Fatalf("found %q", got)
	}
	l, err := durable.LockFile(fsys, "/lock")
	must(t, err)
	must(t, l.Unlock())
}

// The file behaves like a byte slice before the crash, and like its last synced
// state plus any sectors after it.
func TestFileAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fsys := powerloss.New()
		f, err := fsys.OpenFile("/a", os.O_RDWR|os.O_CREATE, 0o600)
		must2(t, err, fsys.SyncDir("/"))
		var now, synced []byte
		clean := true
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			off := rapid.IntRange(0, 20000).Draw(t, "off")
			n := rapid.IntRange(1, 9000).Draw(t, "n")
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0:
				data := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
				_, err := f.WriteAt(data, int64(off))
				must2(t, err)
				now = append(now, make([]byte, max(off+n-len(now), 0))...)
				copy(now[off:], data)
				clean = false
			case 1:
				must2(t, f.Truncate(int64(off)))
				now = append(now[:min(off, len(now)):min(off, len(now))], make([]byte, max(off-len(now), 0))...)
				clean = false
			case 2:
				must2(t, f.Punch(int64(off), int64(n)))
				clear(now[min(off, len(now)):min(off+n, len(now))])
				clean = false
			case 3:
				must2(t, f.Sync())
				synced, clean = bytes.Clone(now), true
			}
			if got := text(fsys, "/a"); got != string(now) {
				t.Fatalf("it reads %d bytes unlike the %d written", len(got), len(now))
			}
		}
		seed := rapid.Uint64().Draw(t, "seed")
		got := text(fsys.Crash(rand.New(rand.NewPCG(seed, seed))), "/a")
		if clean && got != string(synced) {
			t.Fatal("a synced file changed in the crash")
		}
	})
}

func must2(t *rapid.T, errs ...error) {
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestDiskFUAAndFlush(t *testing.T) {
	rng := powerloss.Rand(t)
	d := powerloss.NewDisk(1 << 20)
	read := func(d *powerloss.Disk, off int64) byte {
		var b [1]byte
		_, err := d.ReadAt(b[:], off)
		must(t, err)
		return b[0]
	}
	_, err := d.WriteAt([]byte{1}, 0)
	must(t, err)
	_, err = d.WriteAtFUA([]byte{2}, 8192)
	must(t, err)
	lost := 0
	for range 100 {
		c := d.Crash(rng)
		if read(c, 8192) != 2 {
			t.Fatal("a FUA write was lost")
		}
		lost += 1 - int(read(c, 0))
	}
	if lost == 0 {
		t.Error("an unflushed write never was lost")
	}
	must(t, d.Flush())
	if read(d.Crash(rng), 0) != 1 {
		t.Fatal("a flushed write was lost")
	}
	d.Fail(powerloss.OpSync, 1, syscall.EIO)
	for range 2 {
		if err := d.Flush(); homeward.KindOf(err) != homeward.IO {
			t.Fatalf("a failed flush does not poison the disk: %v", err)
		}
	}
	must(t, d.Reopen().Flush())
	if _, err := d.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a dead process reads")
	}
}
