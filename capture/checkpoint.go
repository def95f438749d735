package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	checkpointMagic  = "HWCKPT\x00\x01"
	checkpointHeader = 4096
	recordHeader     = 512
	recordBytes      = recordHeader + pageBytes
)

// The maps in a checkpoint.
const (
	changedMap = iota
	suspectMap
	checkpointMaps
)

// checkpoint is the file with the bits of one disk as of some time ago, written
// page by page in place.
type checkpoint struct {
	file     durable.File
	instance homeward.ID
	pages    int64
	held     [checkpointMaps][]bool // pages that have, or may have, bits in the file
}

func checkpointHead(instance homeward.ID, size int64) []byte {
	h := make([]byte, checkpointHeader)
	copy(h, checkpointMagic)
	binary.LittleEndian.PutUint64(h[8:], uint64(size))
	copy(h[16:32], instance[:])
	binary.LittleEndian.PutUint32(h[32:], crc32.Checksum(h[:32], castagnoli))
	return h
}

func emptyCheckpoint(instance homeward.ID, blocks int64) *checkpoint {
	c := &checkpoint{instance: instance, pages: pagesFor(blocks)}
	for i := range c.held {
		c.held[i] = make([]bool, c.pages)
	}
	return c
}

func (c *checkpoint) size() int64 { return checkpointHeader + checkpointMaps*c.pages*recordBytes }

// createCheckpoint makes a file with the bits of maps, whole or not at all.
func createCheckpoint(fsys durable.FS, path string, instance homeward.ID, size, blocks int64, maps [checkpointMaps]*bitmap) (*checkpoint, error) {
	c := emptyCheckpoint(instance, blocks)
	n, err := durable.Create(fsys, path, 0o600)
	if err != nil {
		return nil, err
	}
	c.file = n.File()
	err = c.file.Allocate(0, c.size())
	if err == nil {
		_, err = n.WriteAt(checkpointHead(instance, size), 0)
	}
	for kind, b := range maps {
		for p := range b.pages {
			if pg := b.pages[p].Load(); pg != nil && err == nil {
				err = c.write(kind, int64(p), pg)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, n.Abort())
	}
	if err := n.Commit(); err != nil {
		return nil, err
	}
	if c.file, err = fsys.OpenFile(path, os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	return c, nil
}

// openCheckpoint adds the bits of a file to maps. A page that was torn while it was
// written comes back in torn. Corrupt when the file is not that of the instance
// and the disk.
func openCheckpoint(fsys durable.FS, path string, instance homeward.ID, size, blocks int64, maps [checkpointMaps]*bitmap) (c *checkpoint, torn []int64, err error) {
	c = emptyCheckpoint(instance, blocks)
	c.file, err = fsys.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	torn, err = c.load(size, maps)
	if err != nil {
		return nil, nil, errors.Join(homeward.Wrap(err, "read checkpoint", path), c.file.Close())
	}
	return c, torn, nil
}

func (c *checkpoint) load(size int64, maps [checkpointMaps]*bitmap) (torn []int64, err error) {
	head := make([]byte, checkpointHeader)
	if err := readZeroes(c.file, head, 0); err != nil {
		return nil, err
	}
	info, err := c.file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != c.size() || !bytes.Equal(head, checkpointHead(c.instance, size)) {
		return nil, homeward.Errorf("decode", homeward.Corrupt, "", "", "its header is not that of this disk and run")
	}
	const batch = 256
	buf := make([]byte, batch*recordBytes)
	for kind := range maps {
		for p := int64(0); p < c.pages; p += batch {
			n := min(batch, c.pages-p)
			if err := readZeroes(c.file, buf[:n*recordBytes], c.offset(kind, p)); err != nil {
				return nil, err
			}
			for i := range n {
				if !c.decode(kind, p+i, buf[i*recordBytes:(i+1)*recordBytes], maps[kind]) {
					torn = append(torn, p+i)
				}
			}
		}
	}
	return torn, nil
}

// readZeroes fills p; what lies beyond the end of the file reads as zero.
func readZeroes(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return nil
	}
	return err
}

func (c *checkpoint) offset(kind int, p int64) int64 {
	return checkpointHeader + (int64(kind)*c.pages+p)*recordBytes
}

var emptyRecord [recordBytes]byte

// decode adds the bits of a record to b; false when it is damaged.
func (c *checkpoint) decode(kind int, p int64, rec []byte, b *bitmap) bool {
	if bytes.Equal(rec, emptyRecord[:]) {
		return true // never written
	}
	c.held[kind][p] = true
	head := c.recordHead(kind, p, rec[recordHeader:])
	if !bytes.Equal(rec[:recordHeader], head) {
		return false
	}
	if bytes.Equal(rec[recordHeader:], emptyRecord[recordHeader:]) {
		c.held[kind][p] = false
		return true
	}
	to := b.page(p)
	for i := range to {
		to[i] |= binary.LittleEndian.Uint64(rec[recordHeader+8*i:])
	}
	return true
}

func (c *checkpoint) recordHead(kind int, p int64, bits []byte) []byte {
	h := make([]byte, recordHeader)
	binary.LittleEndian.PutUint32(h[4:], uint32(kind))
	binary.LittleEndian.PutUint64(h[8:], uint64(p))
	copy(h[16:32], c.instance[:])
	binary.LittleEndian.PutUint32(h, crc32.Update(crc32.Checksum(h[4:], castagnoli), castagnoli, bits))
	return h
}

// write puts the bits of a page into the file; durable after sync.
func (c *checkpoint) write(kind int, p int64, bits *page) error {
	rec := make([]byte, recordBytes)
	any := uint64(0)
	for i := range bits {
		w := atomic.LoadUint64(&bits[i])
		any |= w
		binary.LittleEndian.PutUint64(rec[recordHeader+8*i:], w)
	}
	copy(rec, c.recordHead(kind, p, rec[recordHeader:]))
	c.held[kind][p] = true
	if _, err := c.file.WriteAt(rec, c.offset(kind, p)); err != nil {
		return err
	}
	c.held[kind][p] = any != 0
	return nil
}

func (c *checkpoint) sync() error { return c.file.Sync() }
