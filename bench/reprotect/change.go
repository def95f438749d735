package reprotect

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// pattern is where a change lies on a disk.
type pattern string

const (
	random     pattern = "random 4 KiB"     // blocks, each once
	sequential pattern = "sequential 1 MiB" // one range
)

// change is what a disk's machine wrote since its copy was made.
type change struct {
	pattern pattern
	bytes   int64
	disk    int64 // its size
	seed    uint64
}

// pieces are the offsets of what is written, in the order of the writes, and how
// long each of them is.
func (c change) pieces() (at []int64, length int64) {
	rng := rand.New(rand.NewPCG(c.seed, 1))
	if c.pattern == sequential {
		n := max(1, c.bytes/mib)
		first := rng.Int64N(c.disk/mib - n + 1)
		for i := range n {
			at = append(at, (first+i)*mib)
		}
		return at, mib
	}
	blocks, n := c.disk/homeward.BlockSize, max(1, c.bytes/homeward.BlockSize)
	taken := make([]uint64, (blocks+63)/64)
	for int64(len(at)) < n {
		b := rng.Int64N(blocks)
		if taken[b/64]&(1<<(b%64)) == 0 {
			taken[b/64] |= 1 << (b % 64)
			at = append(at, b*homeward.BlockSize)
		}
	}
	return at, homeward.BlockSize
}

// writers is how many writes are in flight.
const writers = 8

// apply writes the change, with bytes that do not compress and that were not there.
func (c change) apply(ctx context.Context, disk io.WriterAt) error {
	at, length := c.pieces()
	g, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			buf, content := make([]byte, length), rand.NewChaCha8(key(c.seed, uint64(w)+2))
			for i := w; i < len(at); i += writers {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				_, _ = content.Read(buf) // never fails
				if _, err := disk.WriteAt(buf, at[i]); err != nil {
					return fmt.Errorf("write the change: %w", err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// tell adds to an attempt's values how much had to travel.
func (c change) tell(v measure.Values) {
	at, length := c.pieces()
	changed(v, int64(len(at))*length)
}

func changed(v measure.Values, bytes int64) {
	v["dirty_bytes"] = float64(bytes)
	v["wire_over_dirty"] = v["wire_bytes"] / float64(bytes)
}

func key(seed, of uint64) (k [32]byte) {
	for i := range 8 {
		k[i], k[8+i] = byte(seed>>(8*i)), byte(of>>(8*i))
	}
	return k
}

func label(name, value string) measure.Label { return measure.Label{Name: name, Value: value} }
