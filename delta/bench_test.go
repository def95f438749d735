package delta

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/homeward-dr/homeward/block"
)

const benchBlocks = 16384 // 64 MiB

// benchData is words in random order: it compresses like text does.
func benchData() []byte {
	r := rand.New(rand.NewPCG(1, 1))
	words := make([][]byte, 4000)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(10))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	var b []byte
	for len(b) < 1<<20 {
		b = append(append(b, words[r.IntN(1+r.IntN(len(words)))]...), ' ')
	}
	return b[:1<<20]
}

func benchDelta(tb testing.TB, o EncoderOptions, step int64) []byte {
	var out bytes.Buffer
	e := must(NewEncoder(&out, header(1, benchBlocks*step*block.Size), o))(tb)
	data := benchData()
	for i := range int64(benchBlocks) {
		at := int(i) % 256 * block.Size
		if err := e.Add(0, i*step, data[at:at+block.Size]); err != nil {
			tb.Fatal(err)
		}
	}
	must(e.Close(crash))(tb)
	return out.Bytes()
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name  string
		codec Codec
		step  int64 // 1: adjacent, added by the MiB; else single blocks
	}{{"none", None, 1}, {"none, single blocks", None, 3}, {"s2", S2, 1}, {"zstd", Zstd, 1}} {
		b.Run(c.name, func(b *testing.B) {
			data := benchData()
			b.SetBytes(benchBlocks * block.Size)
			b.ReportAllocs()
			for b.Loop() {
				e := must(NewEncoder(io.Discard, header(1, benchBlocks*c.step*block.Size), EncoderOptions{Codec: c.codec}))(b)
				for i := int64(0); i < benchBlocks; {
					piece := data
					if c.step > 1 {
						piece = data[i%256*block.Size:][:block.Size]
					}
					if err := e.Add(0, i*c.step, piece); err != nil {
						b.Fatal(err)
					}
					i += int64(len(piece) / block.Size)
				}
				must(e.Close(crash))(b)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, codec := range []Codec{None, S2, Zstd} {
		d := benchDelta(b, EncoderOptions{Codec: codec}, 1)
		b.Run(codec.String(), func(b *testing.B) {
			b.SetBytes(benchBlocks * block.Size)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Verify(bytes.NewReader(d)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	d := benchDelta(b, EncoderOptions{FrameBlocks: 16}, 2)
	r := open(b, d)
	for name, off := range map[string]int64{"held": 0, "not held": 1} {
		b.Run(name, func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(2, 2))
			buf := make([]byte, 0, block.Size)
			b.ReportAllocs()
			for b.Loop() {
				if _, held, err := r.Lookup(0, 2*rnd.Int64N(benchBlocks)+off, buf); err != nil || held == (off == 1) {
					b.Fatal(held, err)
				}
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	d := benchDelta(b, EncoderOptions{FrameBlocks: 16}, 2)
	a := open(b, d)
	h := header(2, a.header.Disks[0].Size)
	h.Follows = a.Position()
	var out bytes.Buffer
	e := must(NewEncoder(&out, h, EncoderOptions{FrameBlocks: 16}))(b)
	data := benchData()
	for i := int64(0); i < benchBlocks; i += 2 {
		if err := e.Add(0, i*2+1, data[:block.Size]); err != nil {
			b.Fatal(err)
		}
	}
	must(e.Close(crash))(b)
	in := []*Reader{a, open(b, out.Bytes())}
	b.SetBytes(int64(len(d) + out.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Merge(io.Discard, in, EncoderOptions{FrameBlocks: 16}); err != nil {
			b.Fatal(err)
		}
	}
}
