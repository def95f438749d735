package nbd

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// connect dials with short timeouts and closes with the test.
func connect(t testing.TB, uri string, change ...func(*ClientOptions)) *Client {
	t.Helper()
	o := ClientOptions{URI: uri, ReconnectDeadline: 20 * time.Second}
	for _, f := range change {
		f(&o)
	}
	c, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// seed prints the seed of a randomised test; HOMEWARD_SEED replays one.
func seed(t testing.TB) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HOMEWARD_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

// exercise does random operations on d and on a copy in memory, and compares.
func exercise(t *testing.T, d block.Disk, rounds int) {
	t.Helper()
	rng := seed(t)
	size := d.Size()
	twin := make([]byte, size)
	if _, err := d.ReadAt(twin, 0); err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		off := rng.Int64N(size)
		n := rng.Int64N(min(size-off, int64(1)<<rng.IntN(22))) + 1
		var err error
		switch p := twin[off : off+n]; rng.IntN(5) {
		case 0, 1:
			pattern(p, int64(i))
			_, err = d.WriteAt(p, off)
		case 2:
			clear(p)
			err = d.Zero(off, n, rng.IntN(2) == 0)
		case 3:
			err = d.Flush()
		case 4:
			got := make([]byte, n)
			if _, err = d.ReadAt(got, off); err == nil && !bytes.Equal(got, p) {
				t.Fatalf("round %d: %d bytes at %d differ", i, n, off)
			}
		}
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	got := make([]byte, size)
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, twin) {
		t.Fatalf("disk differs from its twin (%v)", err)
	}
}

func TestClient_OwnServer(t *testing.T) {
	_, d := image(t, 9<<20)
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	exercise(t, connect(t, r.uri("d")), 300)
}

func TestClient_Concurrent(t *testing.T) {
	const each = 1 << 20
	_, d := image(t, 8*each)
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d})
	c := connect(t, r.uri("d"), func(o *ClientOptions) { o.InFlight = 4 })
	var all sync.WaitGroup
	for w := range int64(8) {
		all.Go(func() {
			p, q := pattern(make([]byte, each), w), make([]byte, each)
			for at := int64(0); at < each; at += 12 << 10 {
				n := min(12<<10, each-at)
				if _, err := c.WriteAt(p[at:at+n], w*each+at); err != nil {
					t.Error(err)
				}
			}
			if _, err := c.ReadAt(q, w*each); err != nil || !bytes.Equal(p, q) {
				t.Errorf("worker %d reads back something else (%v)", w, err)
			}
		})
	}
	all.Wait()
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
}

func TestClient_Extents(t *testing.T) {
	d := block.NewMemory(3 << 20)
	if _, err := d.WriteAt(pattern(make([]byte, 8192), 1), 1<<20); err != nil {
		t.Fatal(err)
	}
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d, Contexts: map[string]Context{"homeward:dirty": striped{1 << 20}}})
	c := connect(t, r.uri("d"), func(o *ClientOptions) { o.Contexts = []string{"homeward:dirty"} })
	var got []block.Extent
	for e, err := range c.Extents(0, 3<<20) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 3 || got[1] != (block.Extent{Off: 1 << 20, Len: 8192}) || !got[0].Hole || !got[2].Zero {
		t.Errorf("extents %+v", got)
	}
	var flags []Extent
	for e, err := range c.Status("homeward:dirty", 512<<10, 2<<20) {
		if err != nil {
			t.Fatal(err)
		}
		flags = append(flags, e)
	}
	if len(flags) != 3 || flags[0] != (Extent{512 << 10, 0}) || flags[1] != (Extent{1 << 20, 1}) {
		t.Errorf("dirty %+v", flags)
	}
	for _, err := range c.Status("homeward:none", 0, 1) {
		if homeward.KindOf(err) != homeward.Unsupported {
			t.Error(err)
		}
	}
}

func TestClient_Refusals(t *testing.T) {
	d := block.NewMemory(1 << 20)
	r := serve(t, ServerOptions{}, Export{Name: "d", Disk: d}, Export{Name: "ro", Disk: d, ReadOnly: true})
	ro := connect(t, r.uri("ro"))
	_, err := ro.WriteAt([]byte{1}, 0)
	if homeward.KindOf(err) != homeward.Forbidden {
		t.Error(err)
	}
	_, err = ro.ReadAt(make([]byte, 2), 1<<20-1)
	if homeward.KindOf(err) != homeward.Invalid {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), ClientOptions{URI: r.uri("absent")}); homeward.KindOf(err) != homeward.NotFound {
		t.Error(err)
	}
	open := Opener(ClientOptions{})
	if _, err := open(t.Context(), r.uri("d"), block.Mode{Size: 4096}); homeward.KindOf(err) != homeward.Invalid {
		t.Error(err)
	}
}
