package overlay

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// live is the map of every block written, flushed or not. It is never synced: it
// outlives the process in the kernel's cache, and its first sector names the boot
// of the kernel that has it there. A machine that was only cut off for a moment
// counts on writes that it has not flushed yet; after a power loss, which is
// another boot, the file means nothing and the durable map is the truth.
type live struct {
	mu sync.Mutex
	m  mapFile
}

const liveMagic = "homeward overlay, blocks written since boot "

func liveHeader(boot string) []byte {
	b := make([]byte, sectorSize)
	copy(b, liveMagic+boot+"\n")
	return b
}

// openLive opens or makes the live map over held, to which it adds what this
// boot's file says. boot: see Open.
func openLive(fsys durable.FS, path, boot string, held *block.Map) (*live, error) {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, homeward.Wrap(err, "open overlay", path)
	}
	l := &live{m: mapFile{file: f, bits: held, base: sectorSize}}
	header := make([]byte, sectorSize)
	_, err = f.ReadAt(header, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	switch {
	case err != nil:
	case string(header) == string(liveHeader(boot)):
		err = l.m.load()
	default:
		err = l.begin(boot)
	}
	if err != nil {
		return nil, errors.Join(homeward.Wrap(err, "open overlay", path), f.Close())
	}
	return l, nil
}

// begin makes the file this boot's, and empty. Its header comes last.
func (l *live) begin(boot string) error {
	f := l.m.file
	err := f.Truncate(0)
	if err == nil {
		err = f.Truncate(sectorSize * (1 + sectorsOf(l.m.bits.Blocks())))
	}
	if err == nil {
		_, err = f.WriteAt(liveHeader(boot), 0)
	}
	return err
}

// add enters blocks whose data is written, in held too.
func (l *live) add(r block.Run) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m.add([]block.Run{r})
}
