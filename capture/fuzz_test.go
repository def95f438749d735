package capture

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
)

var fuzzInstance = homeward.ID{1, 2, 3}

const fuzzBlocks = 1000

// placeFile puts data into a file.
func placeFile(t testing.TB, data []byte) (durable.FS, string) {
	fsys := powerloss.New()
	if err := durable.WriteFile(fsys, "/file", data, 0o600); err != nil {
		t.Fatal(err)
	}
	return fsys, "/file"
}

func FuzzHotLog(f *testing.F) {
	fsys := powerloss.New()
	h, err := createHotLog(fsys, "/hot", fuzzInstance)
	if err != nil {
		f.Fatal(err)
	}
	if err := h.store([]uint32{1, 5, 9}); err != nil {
		f.Fatal(err)
	}
	good, err := durable.ReadFile(fsys, "/hot")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:hotSlot])
	f.Fuzz(func(t *testing.T, data []byte) {
		sequence, extents, err := readHot(data, fuzzInstance)
		if err == nil && (sequence == 0 || len(extents) > maxHot) {
			t.Fatalf("read %d, %v", sequence, extents)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	fsys := powerloss.New()
	maps := [checkpointMaps]*bitmap{newBitmap(fuzzBlocks), newBitmap(fuzzBlocks)}
	maps[0].set(7, 9)
	maps[1].set(900, 50)
	if _, err := createCheckpoint(fsys, "/map", fuzzInstance, fuzzBlocks*4096, fuzzBlocks, maps); err != nil {
		f.Fatal(err)
	}
	good, err := durable.ReadFile(fsys, "/map")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 0, byte(0))
	f.Add(good, checkpointHeader+5, byte(1))
	f.Fuzz(func(t *testing.T, data []byte, at int, change byte) {
		data = bytes.Clone(data)
		if at >= 0 && at < len(data) {
			data[at] ^= change
		}
		fsys, path := placeFile(t, data)
		got := [checkpointMaps]*bitmap{newBitmap(fuzzBlocks), newBitmap(fuzzBlocks)}
		_, torn, err := openCheckpoint(fsys, path, fuzzInstance, fuzzBlocks*4096, fuzzBlocks, got)
		if err == nil && len(torn) == 0 && bytes.Equal(data, good) && (!got[0].hasAll(7, 9) || !got[1].hasAll(900, 50)) {
			t.Fatal("bits are missing from an intact file")
		}
	})
}

func FuzzLiveMap(f *testing.F) {
	id := liveID{boot: "boot", instance: fuzzInstance, size: fuzzBlocks * 4096}
	path := filepath.Join(f.TempDir(), "live")
	l, err := createLive(path, fuzzBlocks, func(error) {})
	if err != nil {
		f.Fatal(err)
	}
	l.maps[0].set(7, 9)
	if err := l.seal(id); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	if err := l.close(); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:liveHeader])
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "live")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, _, err := reopenLive(path, id, fuzzBlocks, func(error) {})
		if err != nil || l == nil {
			return
		}
		l.maps[0].set(0, fuzzBlocks)
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzBaseline(f *testing.F) {
	size := int64(2<<20 + 512)
	table := make([]byte, 32*groupsOf(size))
	f.Add(append(baselineHead(fuzzInstance, size, table), table...))
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys, path := placeFile(t, data)
		file, err := fsys.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		got, read, err := readBaseline(file, fuzzInstance, size)
		if err == nil && got <= size && int64(len(read)) != 32*groupsOf(got) {
			t.Fatalf("a table of %d bytes for %d", len(read), got)
		}
	})
}
