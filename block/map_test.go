package block_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// model is a map as a set, to hold Map against.
type model map[int64]bool

func (s model) runs(blocks int64) (runs []block.Run) {
	for b := int64(0); b < blocks; b++ {
		switch n := len(runs); {
		case !s[b]:
		case n > 0 && runs[n-1].Start+runs[n-1].Count == b:
			runs[n-1].Count++
		default:
			runs = append(runs, block.Run{Start: b, Count: 1})
		}
	}
	return runs
}

func checkModel(t *rapid.T, m *block.Map, s model) {
	if m.Count() != int64(len(s)) {
		t.Fatalf("Count is %d, want %d", m.Count(), len(s))
	}
	want := s.runs(m.Blocks())
	i := 0
	for run := range m.Runs(0) {
		if i >= len(want) || run != want[i] {
			t.Fatalf("run %d is %v, want all of %v", i, run, want)
		}
		i++
	}
	if i != len(want) {
		t.Fatalf("%d runs, want %v", i, want)
	}
}

func TestMapAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.Int64Range(1, 400).Draw(t, "blocks")
		m, other := block.NewMap(blocks), block.NewMap(blocks)
		s, so := model{}, model{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			start := rapid.Int64Range(0, blocks).Draw(t, "start")
			count := rapid.Int64Range(0, blocks-start).Draw(t, "count")
			switch rapid.IntRange(0, 6).Draw(t, "op") {
			case 0:
				m.Set(start, count)
				for b := start; b < start+count; b++ {
					s[b] = true
				}
			case 1:
				m.ClearRange(start, count)
				for b := start; b < start+count; b++ {
					delete(s, b)
				}
			case 2:
				other.Set(start, count)
				for b := start; b < start+count; b++ {
					so[b] = true
				}
			case 3:
				m.Or(other)
				for b := range so {
					s[b] = true
				}
			case 4:
				m.AndNot(other)
				for b := range so {
					delete(s, b)
				}
			case 5:
				off := rapid.Int64Range(0, blocks*block.Size-1).Draw(t, "off")
				n := rapid.Int64Range(1, min(3*block.Size, blocks*block.Size-off)).Draw(t, "bytes")
				m.SetBytes(off, n)
				for at := off; at < off+n; at++ {
					s[at/block.Size] = true
				}
			case 6:
				any, n := false, int64(0)
				for b := start; b < start+count; b++ {
					if s[b] {
						any = true
						n++
					}
				}
				if m.HasAny(start, count) != any || m.CountRange(start, count) != n {
					t.Fatalf("HasAny or CountRange(%d, %d) is wrong", start, count)
				}
			}
			checkModel(t, m, s)
		}
		from := rapid.Int64Range(0, blocks).Draw(t, "from")
		for run := range m.Runs(from) {
			if run.Start < from {
				t.Fatalf("run %v begins before %d", run, from)
			}
		}
		data, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		back, err := block.UnmarshalMap(data, blocks)
		if err != nil || !back.Equal(m) {
			t.Fatalf("the map did not come back: %v", err)
		}
		if c := m.Clone(); !c.Equal(m) {
			t.Fatal("the clone differs")
		}
		m.Clear()
		checkModel(t, m, model{})
	})
}

func TestMapRoundTripLarge(t *testing.T) {
	const blocks = 5*32768 + 77
	m := block.NewMap(blocks)
	m.Set(10, 3)                    // a page of runs
	for b := int64(0); b < 32768; { // a raw page
		m.Set(32768+b, 1)
		b += 2
	}
	m.Set(2*32768, 2*32768) // full pages; page 4 stays empty
	m.Set(blocks-1, 1)      // the partial page
	data, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 5000 {
		t.Errorf("%d bytes: the smaller form of some page was not chosen", len(data))
	}
	back := block.NewMap(blocks)
	if err := back.UnmarshalBinary(data); err != nil || !back.Equal(m) {
		t.Fatalf("the map did not come back: %v", err)
	}
	if err := block.NewMap(blocks + 1).UnmarshalBinary(data); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("a map of another size: %v", err)
	}
	if _, err := block.UnmarshalMap(data, blocks-1); homeward.KindOf(err) != homeward.Corrupt {
		t.Errorf("more blocks than allowed: %v", err)
	}
}

func TestMapDamage(t *testing.T) {
	m := block.NewMap(3 * 32768)
	m.Set(5, 9)
	for b := int64(32768); b < 34000; b += 2 {
		m.Set(b, 1)
	}
	data, _ := m.MarshalBinary()
	for n := range data {
		if _, err := block.UnmarshalMap(data[:n], m.Blocks()); homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("prefix of %d bytes: %v", n, err)
		}
	}
	for bit := range len(data) * 8 {
		data[bit/8] ^= 1 << (bit % 8)
		if _, err := block.UnmarshalMap(data, 1<<40); homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("flipped bit %d: %v", bit, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
}

// reseal makes the checksum of a persisted map fit what was done to it.
func reseal(data []byte) []byte {
	body := data[: len(data)-4 : len(data)-4]
	return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

func TestMapRefusesWhatChecksumsCannotTell(t *testing.T) {
	m := block.NewMap(32768 + 10)
	m.Set(5, 9)
	m.Set(32768, 10)
	data, _ := m.MarshalBinary()
	for what, change := range map[string]func([]byte) []byte{
		"more bytes":         func(d []byte) []byte { return append(d, 0, 0, 0, 0) },
		"fewer pages":        func(d []byte) []byte { d[16]--; return d },
		"more pages":         func(d []byte) []byte { d[16]++; return d },
		"too few blocks":     func(d []byte) []byte { d[8]--; return d },
		"a later version":    func(d []byte) []byte { d[7]++; return d },
		"pages out of order": func(d []byte) []byte { d[24] = 7; return d },
		"an unknown kind":    func(d []byte) []byte { d[28] = 2; return d },
		"a run of nothing":   func(d []byte) []byte { d[32] = 0; return d },
		"raw but short":      func(d []byte) []byte { d[28] = 0; return d },
	} {
		if _, err := block.UnmarshalMap(reseal(change(bytes.Clone(data))), 1<<20); homeward.KindOf(err) != homeward.Corrupt {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzUnmarshalMap(f *testing.F) {
	m := block.NewMap(2*32768 + 5)
	m.Set(5, 9)
	m.Set(2*32768+1, 4)
	data, _ := m.MarshalBinary()
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= 4 { // make the checksum fit, to get behind it
			data = reseal(data)
		}
		m, err := block.UnmarshalMap(data, 1<<20)
		if err != nil {
			return
		}
		again, _ := m.MarshalBinary()
		back, err := block.UnmarshalMap(again, 1<<20)
		if err != nil || !back.Equal(m) {
			t.Fatalf("what was read does not come back: %v", err)
		}
	})
}

func TestMapConcurrentSets(t *testing.T) {
	const blocks = 1 << 20
	m := block.NewMap(blocks)
	start := make(chan struct{}) // so that they meet in the same words
	var wg sync.WaitGroup
	for g := range int64(4) {
		wg.Go(func() {
			<-start
			for b := g; b < blocks; b += 4 {
				m.Set(b, 1)
			}
		})
		wg.Go(func() {
			for range m.Runs(0) {
			}
		})
	}
	close(start)
	wg.Wait()
	if m.Count() != blocks {
		t.Fatalf("%d blocks, want %d: a set was lost", m.Count(), blocks)
	}
}

func TestMapOverClearsTail(t *testing.T) {
	words := []uint64{^uint64(0)}
	if n := block.MapOver(words, 10).Count(); n != 10 {
		t.Fatalf("%d blocks, want 10", n)
	}
}

func TestMapRangeOutsidePanics(t *testing.T) {
	for _, r := range []block.Run{{-1, 1}, {0, 11}, {10, 1}, {5, -1}, {1 << 62, 1 << 62}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v did not panic", r)
				}
			}()
			block.NewMap(10).Set(r.Start, r.Count)
		}()
	}
}
