package delta

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
)

// Codec is how the bytes of a frame are stored.
type Codec uint8

const (
	None Codec = iota // as they are
	S2                // s2 block format: fast links
	Zstd              // one zstd frame: slow links
)

func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

// coder compresses, expands and hashes; its parts are made on first use and
// used again. Not safe for concurrent use.
type coder struct {
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	hash *blake3.Hasher
	last homeward.Checksum // what sum gave; here so that it needs no memory of its own
}

// compress stores plain with codec c into dst[:0] and returns the stored bytes
// and the codec really used: None, and plain itself, when c does not save at
// least a sixteenth.
func (c *coder) compress(dst []byte, codec Codec, plain []byte) ([]byte, Codec, error) {
	var out []byte
	switch codec {
	case None:
		return plain, None, nil
	case S2:
		out = s2.Encode(dst[:cap(dst)], plain)
	case Zstd:
		if c.enc == nil {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
				zstd.WithEncoderCRC(false), zstd.WithWindowSize(maxPlain), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return nil, None, homeward.Errorf("encode delta", homeward.Internal, "zstd", "", "%w", err)
			}
			c.enc = enc
		}
		out = c.enc.EncodeAll(plain, dst[:0])
	default:
		return nil, None, homeward.Errorf("encode delta", homeward.Invalid, "codec", "use None, S2 or Zstd", "%v", codec)
	}
	if len(out) > len(plain)-len(plain)/16 {
		return plain, None, nil
	}
	return out, codec, nil
}

// expand undoes compress: it returns exactly n bytes or errs, and never writes
// more than n. The result is stored itself for None, else it lies in dst if that
// has the capacity.
func (c *coder) expand(dst []byte, codec Codec, stored []byte, n int) ([]byte, error) {
	if codec == None {
		return stored, nil // parsing made sure that the lengths agree
	}
	if cap(dst) < n {
		dst = make([]byte, 0, n)
	}
	var out []byte
	var err error
	switch codec {
	case S2:
		var said int
		if said, err = s2.DecodedLen(stored); err == nil && said == n {
			out, err = s2.Decode(dst[:n], stored)
		}
	case Zstd:
		if c.dec == nil {
			if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecodeAllCapLimit(true)); err != nil {
				return nil, homeward.Errorf("decode delta", homeward.Internal, "zstd", "", "%w", err)
			}
		}
		out, err = c.dec.DecodeAll(stored, dst[:0:n])
	}
	if err != nil {
		return nil, corrupt("", "%v: %w", codec, err)
	}
	if len(out) != n {
		return nil, corrupt("", "%v gives other than the %d bytes stated", codec, n)
	}
	return out, nil
}

// sum is the content checksum: BLAKE3-256.
func (c *coder) sum(p []byte) homeward.Checksum {
	if c.hash == nil {
		c.hash = blake3.New()
	}
	c.hash.Reset()
	_, _ = c.hash.Write(p) // never fails
	c.hash.Sum(c.last[:0])
	return c.last
}

// packedMax is room for n plain bytes in every codec's worst case.
func packedMax(n int) int { return max(s2.MaxEncodedLen(n), n+n>>8+64) }
