package delta

import (
	"errors"
	"io"

	"github.com/klauspost/compress"
)

// Recode copies a delta from r to w and stores each data frame with the codec
// that choose asks for. Frames, content checksums, positions and the chained
// checksum stay what they were. choose may look at f.Codec and f.Stored and call
// f.Plain; a frame that does not shrink is stored as it is.
//
// A frame whose codec changes has its content verified; one that keeps its codec
// passes with its CRC checked. Memory: three frames, 3 MiB at most. When an error
// is returned, w holds a part that no reader takes for a delta.
func Recode(w io.Writer, r io.Reader, choose func(f *Frame) Codec) (Header, Trailer, error) {
	return RecodeLimited(w, r, Limits{}, choose)
}

// RecodeLimited is Recode for a delta from a peer.
func RecodeLimited(w io.Writer, r io.Reader, l Limits, choose func(f *Frame) Codec) (Header, Trailer, error) {
	d, err := NewDecoder(r, l)
	if err != nil {
		return Header{}, Trailer{}, err
	}
	h := d.Header()
	out := newSink(w, h, d.raw)
	var plain, packed []byte
	for {
		f, err := d.Next()
		if errors.Is(err, io.EOF) {
			t, err := out.close(d.Trailer().Mark)
			return h, t, err
		}
		if err != nil {
			return h, Trailer{}, err
		}
		stored := f.stored
		if codec := wanted(f, choose); codec != f.Codec {
			if plain == nil {
				plain = make([]byte, 0, maxPlain)
				packed = make([]byte, 0, packedMax(maxPlain))
			}
			p, err := f.Plain(plain)
			if err != nil {
				return h, Trailer{}, err
			}
			if stored, f.Codec, err = d.coder.compress(packed, codec, p); err != nil {
				return h, Trailer{}, err
			}
		}
		if err := out.frame(f, stored); err != nil {
			return h, Trailer{}, err
		}
	}
}

func wanted(f *Frame, choose func(f *Frame) Codec) Codec {
	if f.Zero {
		return None
	}
	return choose(f)
}

// Compressor is a policy for Recode: which codec pays on which link.
type Compressor uint8

const (
	Fast Compressor = iota // s2: costs little, for links of gigabits
	WAN                    // zstd, fastest level: denser, and several times slower, for slow links
)

const (
	samplePieces    = 8
	samplePiece     = 512
	compressibleMin = 0.1 // of compress.Estimate: noise stays below 0.09, plain text is at 0.3
)

// Choose keeps what is compressed already and leaves alone what a sample of 4 KiB
// says will not compress.
func (c Compressor) Choose(f *Frame) Codec {
	if f.Zero || f.Codec != None || !compressible(f.stored) {
		return f.Codec
	}
	if c == WAN {
		return Zstd
	}
	return S2
}

// compressible judges p by pieces from all over it.
func compressible(p []byte) bool {
	if len(p) <= samplePieces*samplePiece {
		return compress.Estimate(p) >= compressibleMin
	}
	var sample [samplePieces * samplePiece]byte
	step := (len(p) - samplePiece) / (samplePieces - 1)
	for i := range samplePieces {
		copy(sample[i*samplePiece:(i+1)*samplePiece], p[i*step:])
	}
	return compress.Estimate(sample[:]) >= compressibleMin
}
