package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

// TestMain also is the other process of TestLockNamesTheOtherProcess.
func TestMain(m *testing.M) {
	if path := os.Getenv("DURABLE_TEST_LOCK"); path != "" {
		if _, err := durable.LockFile(durable.OS(), path); err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("locked")
		}
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	powerloss.ReplayFromEnvironment()
	goleak.VerifyTestMain(m)
}

// both runs a test on the real file system and on the one in memory.
func both(t *testing.T, test func(t *testing.T, fsys durable.FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, durable.OS(), t.TempDir()) })
	t.Run("powerloss", func(t *testing.T) {
		fsys := powerloss.New()
		must(t, fsys.MkdirAll("/dir", 0o700))
		test(t, fsys, "/dir")
	})
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

func TestWriteReadRemove(t *testing.T) {
	both(t, func(t *testing.T, fsys durable.FS, dir string) {
		path := filepath.Join(dir, "a")
		if _, err := durable.ReadFile(fsys, path); homeward.KindOf(err) != homeward.NotFound || !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("absent: %v", err)
		}
		for _, want := range []string{"first", "", strings.Repeat("long", 5000)} {
			must(t, durable.WriteFile(fsys, path, []byte(want), 0o600))
			got, err := durable.ReadFile(fsys, path)
			if err != nil || string(got) != want {
				t.Fatalf("read %d bytes: %v", len(got), err)
			}
		}
		must(t, durable.Remove(fsys, path), durable.Remove(fsys, path), durable.Remove(fsys, dir+"/none/a"))
		if list, err := fsys.ReadDir(dir); err != nil || len(list) != 0 {
			t.Fatalf("left behind: %v, %v", list, err)
		}
		if err := durable.WriteFile(fsys, dir+"/none/a", nil, 0o600); homeward.KindOf(err) != homeward.NotFound {
			t.Fatalf("no such directory: %v", err)
		}
	})
}

func TestFileOperations(t *testing.T) {
	both(t, func(t *testing.T, fsys durable.FS, dir string) {
		must(t, fsys.MkdirAll(dir+"/x/y", 0o700), fsys.MkdirAll(dir+"/x/y", 0o700))
		f, err := fsys.OpenFile(dir+"/x/y/f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		must(t, err)
		_, err = f.Write([]byte("0123"))
		must(t, err)
		_, err = f.Write(bytes.Repeat([]byte("x"), 20000))
		must(t, err, f.Punch(2, 5000), f.Allocate(30000, 10), f.Sync())
		info, err := f.Stat()
		if err != nil || info.Size() != 30010 {
			t.Fatalf("%v, %v", info, err)
		}
		buf := make([]byte, 5010)
		_, err = f.ReadAt(buf, 0)
		must(t, err)
		if want := "01" + string(make([]byte, 5000)) + "xxxxxxxx"; string(buf) != want {
			t.Fatal("the hole is not where it was punched")
		}
		must(t, f.Truncate(1), f.Close())
		if _, err := fsys.OpenFile(dir+"/x/y/f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); homeward.KindOf(err) != homeward.Exists {
			t.Fatalf("created twice: %v", err)
		}
		if err := fsys.MkdirAll(dir+"/x/y/f", 0o700); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("a directory where a file is: %v", err)
		}
		if err := f.Sync(); err == nil {
			t.Fatal("a closed file was synced")
		}
	})
}

func TestNewFile(t *testing.T) {
	both(t, func(t *testing.T, fsys durable.FS, dir string) {
		path := dir + "/new"
		n, err := durable.Create(fsys, path, 0o600)
		must(t, err)
		_, err = n.Write([]byte("ab"))
		must(t, err)
		if _, err := fsys.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("visible before Commit")
		}
		must(t, n.Abort(), n.Abort())
		if n.Commit() == nil {
			t.Fatal("committed what was aborted")
		}
		_, err = durable.Create(fsys, path, 0o600) // left behind, as by a crash
		must(t, err, durable.SweepTemps(fsys, dir), durable.SweepTemps(fsys, dir+"/none"))
		if list, _ := fsys.ReadDir(dir); len(list) != 0 {
			t.Fatalf("left behind: %v", list)
		}
		n, err = durable.Create(fsys, path, 0o600)
		must(t, err)
		_, err = n.WriteAt([]byte("cd"), 2)
		must(t, err, n.Commit(), n.Abort())
		if got, err := durable.ReadFile(fsys, path); string(got) != "\x00\x00cd" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

// A crash at any moment of a WriteFile, after a fault or not, leaves the old file
// or the new one, and after it returned nil the new one.
func TestRandomCrashOfWriteFile(t *testing.T) {
	ops := []string{"", powerloss.OpOpen, powerloss.OpWrite, powerloss.OpSync, powerloss.OpRename, powerloss.OpSyncDir}
	rng := powerloss.Rand(t)
	for i := range powerloss.Cases(600) {
		fsys := powerloss.New()
		before := bytes.Repeat([]byte("old"), 1+rng.IntN(3000))
		next := bytes.Repeat([]byte("newer"), 1+rng.IntN(3000))
		must(t, durable.WriteFile(fsys, "/f", before, 0o600))
		if op := ops[i%len(ops)]; op != "" {
			fsys.Fail(op, "*", 1, []error{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)])
		}
		err := durable.WriteFile(fsys, "/f", next, 0o600)
		fsys.Heal()
		if (err == nil) != (ops[i%len(ops)] == "") {
			t.Fatalf("case %d: %v", i, err)
		}
		after := fsys.Crash(rng)
		must(t, durable.SweepTemps(after, "/"))
		got, readErr := durable.ReadFile(after, "/f")
		must(t, readErr)
		if !bytes.Equal(got, next) && (err == nil || !bytes.Equal(got, before)) {
			t.Fatalf("case %d: %d bytes that are neither version", i, len(got))
		}
		if list, _ := after.ReadDir("/"); len(list) != 1 {
			t.Fatalf("case %d: left behind: %v", i, list)
		}
	}
}

type record struct {
	Name  string         `json:"name"`
	Count int            `json:"count"`
	Tags  map[string]int `json:"tags"`
}

func TestJSON(t *testing.T) {
	both(t, func(t *testing.T, fsys durable.FS, dir string) {
		want := record{Name: "web01", Count: 7, Tags: map[string]int{"a": 1}}
		path := dir + "/r"
		must(t, durable.WriteJSON(fsys, path, want))
		var got record
		must(t, durable.ReadJSON(fsys, path, &got))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%+v", got)
		}
		var narrow struct{ Name string }
		if err := durable.ReadJSON(fsys, path, &narrow); homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("unknown fields: %v", err)
		}
		if err := durable.ReadJSON(fsys, dir+"/none", &got); homeward.KindOf(err) != homeward.NotFound {
			t.Fatalf("absent: %v", err)
		}
	})
}

func TestJSONDamage(t *testing.T) {
	fsys := powerloss.New()
	must(t, durable.WriteJSON(fsys, "/r", record{Name: "web01", Count: 7}))
	data, err := durable.ReadFile(fsys, "/r")
	must(t, err)
	check := func(what string, damaged []byte) {
		must(t, durable.WriteFile(fsys, "/d", damaged, 0o600))
		var r record
		if err := durable.ReadJSON(fsys, "/d", &r); homeward.KindOf(err) != homeward.Corrupt || homeward.RemedyOf(err) == "" {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for n := range data {
		check(fmt.Sprintf("prefix of %d bytes", n), data[:n])
	}
	for bit := range len(data) * 8 {
		flipped := bytes.Clone(data)
		flipped[bit/8] ^= 1 << (bit % 8)
		check(fmt.Sprintf("flipped bit %d", bit), flipped)
	}
	check("an appended byte", append(bytes.Clone(data), ' '))
}

func FuzzReadJSON(f *testing.F) {
	fsys := powerloss.New()
	must(f, durable.WriteJSON(fsys, "/r", record{Name: "web01"}))
	data, err := durable.ReadFile(fsys, "/r")
	must(f, err)
	f.Add(data)
	f.Add([]byte("homeward-record 1 2 00000000\n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := powerloss.New()
		must(t, durable.WriteFile(fsys, "/r", data, 0o600))
		var r record
		if err := durable.ReadJSON(fsys, "/r", &r); err != nil && homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("%v", err)
		}
	})
}

func TestLock(t *testing.T) {
	both(t, func(t *testing.T, fsys durable.FS, dir string) {
		l, err := durable.LockFile(fsys, dir+"/lock")
		must(t, err)
		_, err = durable.LockFile(fsys, dir+"/lock")
		if homeward.KindOf(err) != homeward.InUse || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Fatalf("locked twice: %v", err)
		}
		must(t, l.Unlock())
		l, err = durable.LockFile(fsys, dir+"/lock")
		must(t, err)
		must(t, l.Unlock())
	})
}

func TestLockNamesTheOtherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "DURABLE_TEST_LOCK="+path)
	hold, err := other.StdinPipe()
	must(t, err)
	out, err := other.StdoutPipe()
	must(t, err, other.Start())
	answer := make([]byte, 7)
	if _, err := out.Read(answer); err != nil || string(answer) != "locked\n" {
		t.Fatalf("the other process says %q, %v", answer, err)
	}
	_, err = durable.LockFile(durable.OS(), path)
	if homeward.KindOf(err) != homeward.InUse || !strings.Contains(err.Error(), fmt.Sprint(other.Process.Pid)) {
		t.Fatalf("locked by another process: %v", err)
	}
	must(t, other.Process.Kill()) // the kernel frees it
	_ = other.Wait()
	_ = hold.Close()
	l, err := durable.LockFile(durable.OS(), path)
	must(t, err)
	must(t, l.Unlock())
}

func TestSystemErrors(t *testing.T) {
	for cause, want := range map[error]homeward.Kind{
		syscall.ENOSPC: homeward.NoSpace, syscall.EIO: homeward.IO, syscall.ENOENT: homeward.NotFound,
		syscall.EACCES: homeward.Forbidden, syscall.EROFS: homeward.Forbidden, syscall.EBUSY: homeward.InUse,
		syscall.EOPNOTSUPP: homeward.Unsupported, syscall.EEXIST: homeward.Exists,
	} {
		err := durable.SystemError("write", "/x", &fs.PathError{Op: "write", Path: "/x", Err: cause})
		if homeward.KindOf(err) != want || homeward.RemedyOf(err) == "" || !errors.Is(err, cause) {
			t.Errorf("%v became %v (%v)", cause, homeward.KindOf(err), err)
		}
	}
	if durable.SystemError("write", "/x", nil) != nil {
		t.Error("nil became an error")
	}
}

// Whatever fails and whenever the power goes: a cell has the record stored last,
// or the one a store was writing; and one it has shown it never takes back.
func TestRandomCrashOfCell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fsys := powerloss.New()
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, seed))
		const max = 6000
		c, err := durable.OpenCell(fsys, "/c", max)
		must(t, err)
		var certain, maybe []byte // maybe is nil when no store is in doubt
		for i := range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1, 2:
				next := bytes.Repeat([]byte{byte(i + 1)}, rapid.IntRange(1, max).Draw(t, "length"))
				fault := rapid.SampledFrom([]string{"", "", powerloss.OpWrite, powerloss.OpSync}).Draw(t, "fault")
				if fault != "" {
					fsys.Fail(fault, "c", 1, syscall.EIO)
				}
				err := c.Store(next)
				fsys.Heal()
				if err == nil {
					certain, maybe = next, nil
					continue
				}
				maybe = next
				if c.Store(next) == nil {
					t.Fatal("a store after a failed one was believed")
				}
			case 3: // power loss, perhaps in the middle of a store
				if rapid.Bool().Draw(t, "storing") {
					maybe = bytes.Repeat([]byte{byte(i + 1)}, rapid.IntRange(1, max).Draw(t, "length"))
					fsys.Fail(powerloss.OpSync, "c", 1, syscall.EIO)
					_ = c.Store(maybe)
				}
				fsys = fsys.Crash(rng)
			case 4: // kill -9: the cache stays
				fsys.Kill()
			case 5:
				continue
			}
			c, err = durable.OpenCell(fsys, "/c", max)
			must(t, err)
			got, err := c.Load()
			must(t, err)
			if !bytes.Equal(got, certain) && (maybe == nil || !bytes.Equal(got, maybe)) {
				t.Fatalf("%d bytes of %v: neither the last record nor one in flight", len(got), got[:min(1, len(got))])
			}
			certain, maybe = got, nil // what was shown has to stay
		}
	})
}

func TestCellDamage(t *testing.T) {
	both(t, func(t *testing.T, fsys durable.FS, dir string) {
		path := dir + "/cell"
		c, err := durable.OpenCell(fsys, path, 100)
		must(t, err)
		if got, err := c.Load(); got != nil || err != nil {
			t.Fatalf("never stored: %v, %v", got, err)
		}
		if err := c.Store(make([]byte, 101)); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("too long: %v", err)
		}
		must(t, c.Store([]byte("one")), c.Store([]byte{}))
		if got, err := c.Load(); got == nil || len(got) != 0 || err != nil {
			t.Fatalf("an empty record is no record: %v, %v", got, err)
		}
		must(t, c.Store([]byte("three")), c.Close())
		whole, err := durable.ReadFile(fsys, path)
		must(t, err)

		reopen := func(data []byte) (string, error) {
			must(t, durable.WriteFile(fsys, path, data, 0o600))
			c, err := durable.OpenCell(fsys, path, 100)
			if err != nil {
				return "", err
			}
			defer c.Close()
			got, err := c.Load()
			return string(got), err
		}
		both := bytes.Clone(whole)
		both[0] ^= 1
		both[4096] ^= 1
		for what, data := range map[string][]byte{"both slots": both, "short": whole[:4096], "empty": nil, "odd": whole[:8191]} {
			if _, err := reopen(data); homeward.KindOf(err) != homeward.Corrupt || homeward.RemedyOf(err) == "" {
				t.Fatalf("%s: %v", what, err)
			}
		}
		for bit := range (24 + 5) * 8 { // of the newest slot: the one before shows
			flipped := bytes.Clone(whole)
			flipped[4096+bit/8] ^= 1 << (bit % 8)
			if got, err := reopen(flipped); err != nil || got != "" {
				t.Fatalf("flipped bit %d: %q, %v", bit, got, err)
			}
		}
		if got, err := reopen(whole); err != nil || got != "three" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func TestCellGrows(t *testing.T) {
	both(t, func(t *testing.T, fsys durable.FS, dir string) {
		c, err := durable.OpenCell(fsys, dir+"/c", 10)
		must(t, err)
		must(t, c.Store([]byte("small")), c.Close())
		c, err = durable.OpenCell(fsys, dir+"/c", 10000)
		must(t, err)
		if got, err := c.Load(); string(got) != "small" {
			t.Fatalf("%q, %v", got, err)
		}
		big := bytes.Repeat([]byte("b"), 10000)
		must(t, c.Store(big), c.Close())
		c, err = durable.OpenCell(fsys, dir+"/c", 10)
		must(t, err)
		if got, err := c.Load(); !bytes.Equal(got, big) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		must(t, c.Close())
	})
}

func BenchmarkCellStore(b *testing.B) {
	c, err := durable.OpenCell(durable.OS(), filepath.Join(b.TempDir(), "cell"), 1000)
	must(b, err)
	record := make([]byte, 500)
	b.ReportAllocs()
	for b.Loop() {
		must(b, c.Store(record))
	}
	must(b, c.Close())
}
