package delta

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

func TestReaderIsSafeForConcurrentUse(t *testing.T) {
	const blocks = 600
	var changes []change
	for b := int64(0); b < blocks; b += 2 {
		changes = append(changes, change{start: b, data: bytes.Repeat([]byte{byte(1 + b%250)}, block.Size)})
	}
	for _, codec := range []Codec{None, S2, Zstd} {
		r := open(t, encode(t, header(1, blocks*block.Size), EncoderOptions{FrameBlocks: 1, Codec: codec}, crash, changes...))
		var g errgroup.Group
		for w := range int64(4) {
			g.Go(func() error {
				buf := make([]byte, 0, block.Size)
				for i := range int64(blocks) {
					b := (i*7 + w*13) % blocks
					data, held, err := r.Lookup(0, b, buf)
					if err != nil {
						return err
					}
					if held != (b%2 == 0) || held && (data[0] != byte(1+b%250) || data[block.Size-1] != data[0]) {
						return fmt.Errorf("block %d: held %v", b, held)
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%v: %v", codec, err)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	r := open(t, encode(t, header(1, 1<<20), EncoderOptions{}, crash, change{start: 200, zero: 5}))
	nothing := func(int64, []byte) error { return nil }
	for _, disk := range []int{-1, 1} {
		if err := r.ReadBlocks(disk, 0, 1, nothing); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("disk %d: %v", disk, err)
		}
		if err := r.Map(disk, block.NewMap(256)); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("map of disk %d: %v", disk, err)
		}
	}
	if err := r.Map(0, block.NewMap(204)); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("a map too small: %v", err)
	}
	stop := errors.New("enough")
	if err := r.ReadBlocks(0, 0, 256, func(int64, []byte) error { return stop }); err != stop {
		t.Errorf("an error of the callback came back as %v", err)
	}
	for run, err := range r.Runs(0, 202) {
		if err != nil || run != (block.Run{Start: 202, Count: 3}) {
			t.Errorf("%v %v", run, err)
		}
		break
	}
}

// Within a call of ReadBlocks the same reader may be asked for more.
func TestReaderIsReentrant(t *testing.T) {
	r := open(t, encode(t, header(1, 1<<20), EncoderOptions{Codec: S2}, crash, change{data: text(64 * block.Size)}))
	err := r.ReadBlocks(0, 0, 64, func(start int64, data []byte) error {
		before := bytes.Clone(data)
		if _, held, err := r.Lookup(0, start+1, nil); err != nil || !held {
			return fmt.Errorf("held %v, %w", held, err)
		}
		if !bytes.Equal(before, data) {
			return errors.New("the inner call changed the outer one's data")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
