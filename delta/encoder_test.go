package delta

import (
	"bytes"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

func TestEncoderRefuses(t *testing.T) {
	const b = block.Size
	data := bytes.Repeat([]byte{1}, 4*b)
	for name, do := range map[string]func(e *Encoder) error{
		"a disk that is not there":    func(e *Encoder) error { return e.Add(2, 0, data[:b]) },
		"a negative disk":             func(e *Encoder) error { return e.Add(-1, 0, data[:b]) },
		"a block beyond the disk":     func(e *Encoder) error { return e.Add(0, 9, data[:2*b]) },
		"a negative block":            func(e *Encoder) error { return e.Add(0, -1, data[:b]) },
		"no blocks":                   func(e *Encoder) error { return e.Add(0, 1, nil) },
		"no zero blocks":              func(e *Encoder) error { return e.AddZero(0, 1, 0) },
		"too many zero blocks":        func(e *Encoder) error { return e.AddZero(0, 1, 1<<62) },
		"half a block":                func(e *Encoder) error { return e.Add(0, 1, data[:512]) },
		"a short end made whole":      func(e *Encoder) error { return e.Add(1, 1, data[:b]) },
		"a block twice":               func(e *Encoder) error { _ = e.Add(0, 1, data[:b]); return e.Add(0, 1, data[:b]) },
		"a disk going back":           func(e *Encoder) error { _ = e.Add(1, 0, data[:b]); return e.Add(0, 5, data[:b]) },
		"zero blocks within the rest": func(e *Encoder) error { _ = e.Add(0, 1, data); return e.AddZero(0, 4, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			e := must(NewEncoder(&out, header(1, 10*b, b+512), EncoderOptions{}))(t)
			if err := do(e); homeward.KindOf(err) != homeward.Invalid || homeward.RemedyOf(err) == "" {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestEncoderRefusesHeaders(t *testing.T) {
	for name, spoil := range map[string]func(h *Header){
		"item":                func(h *Header) { h.Item = "a/b" },
		"no disks":            func(h *Header) { h.Disks = nil },
		"a disk twice":        func(h *Header) { h.Disks = append(h.Disks, h.Disks[0]) },
		"a disk of no bytes":  func(h *Header) { h.Disks[0].Size = 0 },
		"too many disks":      func(h *Header) { h.Disks = make([]DiskInfo, homeward.MaxDisks+1) },
		"kind":                func(h *Header) { h.Kind = 2 },
		"no machine":          func(h *Header) { h.Machine = nil },
		"another machine":     func(h *Header) { h.Machine.Item = "web02" },
		"another disk":        func(h *Header) { h.Machine.Disks[0].ID = "other" },
		"another size":        func(h *Header) { h.Machine.Disks[0].Size += 512 },
		"a machine too large": func(h *Header) { h.Machine.NVRAM = make([]byte, DefaultMaxManifest) },
	} {
		t.Run(name, func(t *testing.T) {
			h := header(1, block.Size)
			spoil(&h)
			if _, err := NewEncoder(io.Discard, h, EncoderOptions{}); homeward.KindOf(err) != homeward.Invalid {
				t.Fatalf("got %v", err)
			}
		})
	}
	for _, o := range []EncoderOptions{{FrameBlocks: -1}, {FrameBlocks: MaxFrameBlocks + 1}, {Codec: 3}} {
		if _, err := NewEncoder(io.Discard, header(1, 512), o); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("%+v: %v", o, err)
		}
	}
	for _, m := range []homeward.Mark{{}, {Kind: "best"}, {Kind: homeward.MarkCrash, Label: strings.Repeat("x", 201)}} {
		e := must(NewEncoder(io.Discard, header(1, 512), EncoderOptions{}))(t)
		if _, err := e.Close(m); homeward.KindOf(err) != homeward.Invalid {
			t.Fatalf("%+v: %v", m, err)
		}
		if _, err := e.Close(crash); err == nil {
			t.Fatal("closed twice")
		}
	}
}

// full takes n bytes, then the disk is full.
type full struct{ n int }

func (f *full) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

func TestEncoderErrorsStay(t *testing.T) {
	e := must(NewEncoder(&full{n: 100 << 10}, header(1, 1<<20), EncoderOptions{}))(t)
	var err error
	for blk := int64(0); blk < 256 && err == nil; blk += 16 {
		err = e.Add(0, blk, bytes.Repeat([]byte{1}, 16*block.Size))
	}
	if homeward.KindOf(err) != homeward.NoSpace {
		t.Fatalf("got %v", err)
	}
	if _, again := e.Close(crash); homeward.KindOf(again) != homeward.NoSpace {
		t.Fatalf("then %v", again)
	}
}

func TestRandomBlocksCostLittle(t *testing.T) {
	r := seeded(t)
	for _, frame := range []int{16, DefaultFrameBlocks} {
		var out bytes.Buffer
		e := must(NewEncoder(&out, header(1, 1<<30), EncoderOptions{FrameBlocks: frame}))(t)
		before := out.Len()
		data := random(r, block.Size)
		n := int64(0)
		for blk := int64(0); n < 2000; blk += 2 + r.Int64N(100) {
			if err := e.Add(0, blk, data); err != nil {
				t.Fatal(err)
			}
			n++
		}
		must(e.Close(crash))(t)
		over := float64(int64(out.Len()-before)-n*block.Size) / float64(n*block.Size)
		t.Logf("frames of %d blocks: %.2f %% overhead", frame, 100*over)
		if over > 0.015 {
			t.Fatalf("frames of %d blocks cost %.2f %%", frame, 100*over)
		}
	}
}

func TestEncoderAllocatesNothingPerBlock(t *testing.T) {
	const blocks = 1 << 20
	e := must(NewEncoder(io.Discard, header(1, blocks*block.Size), EncoderOptions{}))(t)
	data := random(seeded(t), block.Size)
	blk := int64(0)
	perBlock := testing.AllocsPerRun(5000, func() {
		if err := e.Add(0, blk, data); err != nil {
			t.Fatal(err)
		}
		blk += 2
	})
	if perBlock >= 0.5 {
		t.Fatalf("%v allocations per block", perBlock)
	}
}

// A zero run longer than a stored run can say is cut in frames.
func TestHugeZeroRuns(t *testing.T) {
	const blocks = 3 << 32
	b := encode(t, header(1, blocks*block.Size), EncoderOptions{}, crash,
		change{start: 0, zero: 2}, change{start: 2, zero: 1 << 33}, change{start: blocks - 1, zero: 1})
	_, tr, err := Verify(bytes.NewReader(b))
	if err != nil || tr.ZeroBlocks != 1<<33+3 || tr.Blocks != tr.ZeroBlocks {
		t.Fatalf("%+v, %v", tr, err)
	}
	data, held, err := open(t, b).Lookup(0, 1<<33, nil)
	if err != nil || !held || !block.IsZero(data) || len(data) != block.Size {
		t.Fatalf("%v, %d bytes, %v", held, len(data), err)
	}
}

// Adjacent calls of Add share frames and runs.
func TestAddsCoalesce(t *testing.T) {
	data := bytes.Repeat([]byte{1}, block.Size)
	var changes []change
	for i := range int64(8) {
		changes = append(changes, change{start: i, data: data})
	}
	changes = append(changes, change{start: 100, data: data})
	r := open(t, encode(t, header(1, 1<<20), EncoderOptions{}, crash, changes...))
	if r.Trailer().Frames != 1 {
		t.Fatalf("%d frames", r.Trailer().Frames)
	}
	var runs []block.Run
	for run, err := range r.Runs(0, 2) {
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	if len(runs) != 2 || runs[0] != (block.Run{Start: 2, Count: 6}) || runs[1] != (block.Run{Start: 100, Count: 1}) {
		t.Fatalf("runs %v", runs)
	}
}
