package delta

import (
	"bytes"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// TestMain hands HOMEWARD_SEED to rapid too, which prints its own when it fails.
func TestMain(m *testing.M) {
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		if err := flag.Set("rapid.seed", s); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// seeded is a random source whose seed is printed; HOMEWARD_SEED replays one.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HOMEWARD_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("HOMEWARD_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// change is one Add or AddZero.
type change struct {
	disk        int
	start, zero int64 // zero: count of AddZero, else data
	data        []byte
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var when = time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC)

var crash = homeward.Mark{Kind: homeward.MarkCrash, At: when}

// position is the n-th of a line of positions.
func position(n int) homeward.Position {
	p := homeward.Position{Generation: homeward.Generation{Number: 3}, Sequence: uint64(n)}
	p.Generation.ID[0], p.Cut[15], p.Checksum[0] = 7, byte(n+1), byte(n+1)
	return p
}

// header is one of a forward delta from position n to n+1.
func header(n int, sizes ...int64) Header {
	h := Header{Item: "web01", Follows: position(n), To: position(n + 1)}
	h.To.Checksum = homeward.Checksum{}
	m := &homeward.Machine{Item: h.Item, Name: "web", CPUs: 2}
	for i, size := range sizes {
		id := homeward.DiskID("disk-" + strconv.Itoa(i))
		h.Disks = append(h.Disks, DiskInfo{ID: id, Size: size})
		m.Disks = append(m.Disks, homeward.Disk{ID: id, Size: size})
	}
	h.Machine = m
	return h
}

func encode(t testing.TB, h Header, o EncoderOptions, mark homeward.Mark, changes ...change) []byte {
	t.Helper()
	var b bytes.Buffer
	e := must(NewEncoder(&b, h, o))(t)
	for _, c := range changes {
		var err error
		if c.zero > 0 {
			err = e.AddZero(c.disk, c.start, c.zero)
		} else {
			err = e.Add(c.disk, c.start, c.data)
		}
		if err != nil {
			t.Fatal(err)
		}
		if int64(b.Len()) > e.Size() {
			t.Fatalf("%d bytes written, Size says %d", b.Len(), e.Size())
		}
	}
	most := e.Size()
	must(e.Close(mark))(t)
	if int64(b.Len()) > most {
		t.Fatalf("%d bytes written, Size said %d", b.Len(), most)
	}
	return b.Bytes()
}

func open(t testing.TB, b []byte) *Reader {
	t.Helper()
	return must(Open(bytes.NewReader(b), int64(len(b))))(t)
}

// random is n bytes that do not compress and hold no zero block.
func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + r.IntN(255))
	}
	return b
}

// text is n bytes that compress.
func text(n int) []byte {
	return bytes.Repeat([]byte("all that changed, and nothing else; "), n/36+1)[:n]
}

// apply plays a delta over disks in memory, as a stream.
func apply(t testing.TB, delta []byte, disks [][]byte) {
	t.Helper()
	d := must(NewDecoder(bytes.NewReader(delta), Limits{}))(t)
	for i, di := range d.Header().Disks {
		for int64(len(disks[i])) < di.Size { // growth
			disks[i] = append(disks[i], make([]byte, di.Size-int64(len(disks[i])))...)
		}
	}
	var buf []byte
	for {
		f, err := d.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		plain := must(f.Plain(buf))(t)
		for run, data := range f.Split(plain) {
			from := run.Start * block.Size
			if f.Zero {
				clear(disks[f.Disk][from:min(from+run.Count*block.Size, int64(len(disks[f.Disk])))])
			} else {
				copy(disks[f.Disk][from:], data)
			}
		}
	}
}

// applyReader plays a delta over disks through its index.
func applyReader(r *Reader, disks [][]byte) error {
	for i := range r.Header().Disks {
		err := r.ReadBlocks(i, 0, r.Header().Disks[i].Blocks(), func(start int64, data []byte) error {
			copy(disks[i][start*block.Size:], data)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestRoundTrip(t *testing.T) {
	r := seeded(t)
	const tail = 10*block.Size + 512
	for _, codec := range []Codec{None, S2, Zstd} {
		want := [][]byte{text(tail), text(3 * block.Size)}
		got := [][]byte{text(tail), text(3 * block.Size)}
		clear(want[0][block.Size : 3*block.Size])
		copy(want[0][3*block.Size:], random(r, 2*block.Size))
		copy(want[0][9*block.Size:], random(r, block.Size+512))
		clear(want[1])
		b := encode(t, header(1, tail, 3*block.Size), EncoderOptions{Codec: codec, FrameBlocks: 3}, crash,
			change{disk: 0, start: 0, data: want[0][:8*block.Size]},
			change{disk: 0, start: 9, data: want[0][9*block.Size:]},
			change{disk: 1, start: 0, zero: 3})
		apply(t, b, got)
		if !bytes.Equal(got[0], want[0]) || !bytes.Equal(got[1], want[1]) {
			t.Fatalf("%v: disks differ", codec)
		}
		rd := open(t, b)
		again := [][]byte{text(tail), text(3 * block.Size)}
		if err := applyReader(rd, again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[0], want[0]) || !bytes.Equal(again[1], want[1]) {
			t.Fatalf("%v: disks differ through the index", codec)
		}
		h, tr, err := Verify(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if tr != rd.Trailer() || tr.Blocks != 13 || tr.ZeroBlocks != 5 || tr.Mark != crash {
			t.Fatalf("trailer %+v", tr)
		}
		if p := h.Position(tr); p.Checksum != tr.Checksum || p.Cut != h.To.Cut || p != rd.Position() {
			t.Fatalf("position %v", p)
		}
	}
}
