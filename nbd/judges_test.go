package nbd

import (
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// striped is a Context that alternates between two flags every step bytes.
type striped struct{ step int64 }

func (s striped) Extents(off, n int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for end := off + n; off < end; {
			next := min(end, (off/s.step+1)*s.step)
			if !yield(Extent{Len: next - off, Flags: uint32(off / s.step % 2)}, nil) {
				return
			}
			off = next
		}
	}
}

func TestNbdinfo(t *testing.T) {
	d := block.NewMemory(8 << 20)
	r := serve(t, ServerOptions{}, Export{Name: "disk-0", Disk: d, Description: "the first", MultiConn: true,
		Contexts: map[string]Context{"homeward:dirty": striped{1 << 20}}}, Export{Name: "ro", Disk: d, ReadOnly: true})
	if _, err := d.WriteAt(pattern(make([]byte, 1<<20), 1), 2<<20); err != nil {
		t.Fatal(err)
	}

	list := tool(t, "nbdinfo", "--list", UnixURI(r.socket, "").String())
	for _, want := range []string{`export="disk-0"`, `export="ro"`, "the first", "homeward:dirty", "base:allocation"} {
		if !strings.Contains(list, want) {
			t.Errorf("nbdinfo --list lacks %q:\n%s", want, list)
		}
	}
	var info struct {
		Protocol string
		TLS      bool
		Exports  []map[string]any
	}
	if err := json.Unmarshal([]byte(tool(t, "nbdinfo", "--json", r.uri("disk-0"))), &info); err != nil {
		t.Fatal(err)
	}
	e := info.Exports[0]
	for key, want := range map[string]any{
		"export-size": float64(8 << 20), "is_read_only": false, "can_flush": true, "can_fua": true, "can_trim": true,
		"can_zero": true, "can_df": true, "can_multi_conn": true, "can_fast_zero": true,
		"block_size_minimum": float64(1), "block_size_maximum": float64(MaxRequest),
	} {
		if e[key] != want {
			t.Errorf("%s is %v, want %v", key, e[key], want)
		}
	}
	dirty := strings.Fields(tool(t, "nbdinfo", "--map=homeward:dirty", r.uri("disk-0")))
	if got := strings.Join(dirty[:6], " "); got != "0 1048576 0 1048576 1048576 1" {
		t.Errorf("dirty map begins %q", got)
	}
	alloc := strings.Join(strings.Fields(tool(t, "nbdinfo", "--map", r.uri("disk-0"))), " ")
	if alloc != "0 2097152 3 hole,zero 2097152 1048576 0 data 3145728 5242880 3 hole,zero" {
		t.Errorf("allocation map is %q", alloc)
	}
}

func TestNbdcopy(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	data := pattern(make([]byte, 5<<20+512), 3)
	clear(data[1<<20 : 3<<20])
	if err := os.WriteFile(src, data, 0o600); err != nil {
		t.Fatal(err)
	}
	path, d := image(t, int64(len(data)))
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d, MultiConn: true})
	tool(t, "nbdcopy", "--flush", src, r.uri("d"))
	tool(t, "cmp", src, path)
	back := filepath.Join(dir, "back")
	tool(t, "nbdcopy", r.uri("d"), back)
	tool(t, "cmp", src, back)
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, r.uri("d"))
}

func TestNbdsh(t *testing.T) {
	path, d := image(t, 4<<20)
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d}, Export{Name: "ro", Disk: d, ReadOnly: true})
	tool(t, "nbdsh", "-u", r.uri("d"), "-c", `
import errno
def fails(want, f, *a, **k):
    try: f(*a, **k)
    except nbd.Error as e:
        assert e.errno == want, (want, e.errno, str(e)); return
    assert False, "no error"

h.set_strict_mode(0)             # let the server judge
h.pwrite(b"A" * 1001, 513)
h.pwrite(b"B" * 7, 600, nbd.CMD_FLAG_FUA)
h.zero(100, 700)
h.zero(50, 900, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(1, 1000, nbd.CMD_FLAG_FUA)
h.trim(65536, 4096)
h.flush()
want = bytearray(b"\0" * 513 + b"A" * 1001)
want[600:607] = b"B" * 7; want[700:800] = b"\0" * 100; want[900:950] = b"\0" * 50; want[1000:1001] = b"\0"
assert h.pread(1514, 0) == bytes(want)
assert h.pread(1514, 0, nbd.CMD_FLAG_DF) == bytes(want)
assert h.pread(3 << 20, 1 << 20) == bytes(3 << 20)
fails("EINVAL", h.pread, 512, h.get_size() - 1)
fails("ENOSPC", h.pwrite, b"x" * 512, h.get_size() - 1)
fails("ENOSPC", h.zero, 512, h.get_size() - 1)
fails("EINVAL", h.trim, 512, h.get_size() - 1)
fails("EINVAL", h.pread, 16, 0, 1 << 7)
fails("ENOTSUP", h.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO)
fails("EINVAL", h.cache, 4096, 0)
fails("EINVAL", h.block_status, 4096, 0, lambda *a: 0)
assert h.pread(1, 513) == b"A"   # and the connection lives on
`)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if data[513] != 'A' || data[600] != 'B' || data[700] != 0 || data[900] != 0 || data[1000] != 0 {
		t.Error("the image does not hold what nbdsh wrote")
	}
	tool(t, "nbdsh", "-u", r.uri("ro"), "-c", `
h.set_strict_mode(0)
for f in (lambda: h.pwrite(b"x", 0), lambda: h.zero(1, 0), lambda: h.trim(1, 0)):
    try: f()
    except nbd.Error as e: assert e.errno == "EPERM", e.errno
    else: assert False
assert h.pread(1, 513) == b"A"
`)
	// One extent when one is asked for; the union covers the range.
	tool(t, "nbdsh", "-c", `h.add_meta_context("base:allocation")`, "-u", r.uri("d"), "-c", `
seen = []
h.block_status(h.get_size(), 0, lambda c, o, e, err: seen.append(e), nbd.CMD_FLAG_REQ_ONE)
assert len(seen[0]) == 2 and seen[0][1] == 0, seen
seen.clear()
h.block_status(h.get_size(), 0, lambda c, o, e, err: seen.append(e))
assert sum(seen[0][::2]) == h.get_size() and seen[0][-1] == 3, seen
`)
}

func TestQemuIO(t *testing.T) {
	_, d := image(t, 16<<20)
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	out := tool(t, "qemu-io", "-f", "raw", "--discard=unmap",
		"-c", "write -P 0x11 0 1M", "-c", "write -f -P 0x22 1M 64k", "-c", "write -P 0x33 1234 777", "-c", "write -z 2M 1M",
		"-c", "write -z -u 512k 64k", "-c", "discard 1M 4k", "-c", "flush", "-c", "aio_write -P 0x44 4M 2M", "-c", "aio_flush",
		"-c", "read -P 0x11 0 1234", "-c", "read -P 0x33 1234 777", "-c", "read -P 0 512k 64k", "-c", "read -P 0x22 1052672 61440",
		"-c", "read -P 0 2M 1M", "-c", "read -P 0x44 4M 2M", r.uri("d"))
	if strings.Contains(out, "failed") || strings.Contains(out, "error") {
		t.Error(out)
	}
}

func TestFioVerify(t *testing.T) {
	_, d := image(t, 32<<20)
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	tool(t, "fio", "--name=v", "--ioengine=nbd", "--uri="+r.uri("d"), "--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=1",
		"--iodepth=16", "--size=32m", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--norandommap=0", "--fsync=64")
}

// nbdkit starts one for our client, with the given arguments, and returns the
// URI. It ends with the test.
func nbdkit(t *testing.T, args ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "nbdkit")
	background(t, "nbdkit", socket, append([]string{"-f", "-U", socket}, args...)...)
	return UnixURI(socket, "").String()
}

func TestClient_Nbdkit(t *testing.T) {
	path, _ := image(t, 6<<20)
	exercise(t, connect(t, nbdkit(t, "--filter=delay", "file", path, "delay-read=1ms", "delay-write=1ms")), 100)
	exercise(t, connect(t, nbdkit(t, "--no-sr", "file", path)), 100)
	exercise(t, connect(t, nbdkit(t, "--filter=nozero", "file", path)), 100)
	exercise(t, connect(t, nbdkit(t, "--filter=fua", "--filter=noextents", "file", path, "fuamode=emulate")), 100)
}

func TestClient_NbdkitErrors(t *testing.T) {
	for errno, want := range map[string]homeward.Kind{
		"ENOSPC": homeward.NoSpace, "EPERM": homeward.Forbidden, "EIO": homeward.IO, "ENOMEM": homeward.Busy, "EINVAL": homeward.Invalid,
	} {
		c := connect(t, nbdkit(t, "--filter=error", "memory", "1M", "error="+errno, "error-rate=100%"))
		_, werr := c.WriteAt(make([]byte, 4096), 0)
		_, rerr := c.ReadAt(make([]byte, 4096), 0)
		for _, err := range []error{werr, rerr, c.Zero(0, 4096, true)} {
			if homeward.KindOf(err) != want {
				t.Errorf("%s arrived as %v", errno, err)
			}
		}
	}
}

func TestClient_QemuNbd(t *testing.T) {
	path, _ := image(t, 6<<20)
	socket := filepath.Join(t.TempDir(), "q")
	background(t, "qemu-nbd", socket, "-t", "-e", "4", "-x", "disk0", "-k", socket, "--image-opts",
		"driver=raw,file.driver=file,file.locking=off,file.filename="+path)
	exercise(t, connect(t, UnixURI(socket, "disk0").String()), 150)
	if _, err := Dial(t.Context(), ClientOptions{URI: UnixURI(socket, "other").String()}); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("%v", err)
	}
}

// TestCheckwrite copies through our client into our server, and lets nbdkit's
// checkwrite filter compare what nbdcopy writes with what is there.
func TestCheckwrite(t *testing.T) {
	src, from := image(t, 4<<20)
	dst, to := image(t, 4<<20)
	if _, err := from.WriteAt(pattern(make([]byte, 1<<20), 9), 1<<20); err != nil {
		t.Fatal(err)
	}
	r := serve(t, ServerOptions{}, Export{Name: "from", Disk: from}, Export{Name: "to", Disk: to})
	a, b := connect(t, r.uri("from")), connect(t, r.uri("to"))
	buf := make([]byte, 4<<20)
	if _, err := a.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.WriteAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	check := func() (string, error) {
		return toolErr(t, "nbdkit", "-U", "-", "--filter=checkwrite", "file", dst, "--run", "nbdcopy "+src+` "$uri"`)
	}
	if out, err := check(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// Our client writes against checkwrite: the same bytes pass, others do not.
	judge := connect(t, nbdkit(t, "--filter=checkwrite", "file", src))
	if _, err := judge.WriteAt(buf, 0); err != nil {
		t.Error(err)
	}
	if _, err := judge.WriteAt([]byte("another"), 2<<20); homeward.KindOf(err) != homeward.IO {
		t.Errorf("checkwrite let a difference pass: %v", err)
	}
	if _, err := b.WriteAt([]byte("another"), 2<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := check(); err == nil {
		t.Error("checkwrite does not see a difference")
	}
}
