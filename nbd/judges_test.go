package nbd

import (
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
