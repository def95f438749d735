package capture

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/homeward-dr/homeward/durable"
)

// flip flips one bit of a file, where there is something: undo flips it back.
func flip(t *testing.T, fsys durable.FS, path string, rng *rand.Rand) (undo func()) {
	t.Helper()
	data, err := durable.ReadFile(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	var used []int64
	for at, b := range data {
		if b != 0 {
			used = append(used, int64(at))
		}
	}
	at, bit := used[rng.IntN(len(used))], byte(1)<<rng.IntN(8)
	f, err := fsys.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	toggle := func() {
		data[at] ^= bit
		if _, err := f.WriteAt(data[at:at+1], at); err != nil {
			t.Fatal(err)
		}
	}
	toggle()
	return func() {
		toggle()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
