package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/homeward-dr/homeward"
)

const (
	cellMagic  = "HWCELL\x00\x01"
	cellHeader = 24
	cellAlign  = 4096 // a slot never shares a page with the other
)

// Cell is a small record overwritten in place, for one fdatasync each: two slots
// are written in turn, so the one before is whole while the next is torn.
// Methods may be called concurrently. One Cell per path at a time.
type Cell struct {
	mu      sync.Mutex
	file    File
	slot    int64 // bytes of one slot
	max     int
	current int64 // index of the slot that holds the record
	counter uint64
	record  []byte
	buf     []byte
	failed  error
}

// OpenCell opens the cell at path for records of at most max bytes, and creates
// it when absent. What Load then returns is durable: opening writes the newest
// slot once more, for it may be a store that a crash cut off between write and
// sync, or one whose sync failed. Corrupt when neither slot is good.
func OpenCell(fsys FS, path string, max int) (*Cell, error) {
	f, err := fsys.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = newCellFile(fsys, path, max, 0, nil); err == nil {
			f, err = fsys.OpenFile(path, os.O_RDWR, 0)
		}
	}
	if err != nil {
		return nil, homeward.Wrap(err, "open cell", path)
	}
	c := &Cell{file: f, max: max}
	if err := c.read(); err != nil {
		return nil, errors.Join(homeward.Wrap(err, "open cell", path), f.Close())
	}
	if c.slot < slotSize(max) { // it was made for smaller records
		err := errors.Join(f.Close(), newCellFile(fsys, path, max, c.counter, c.record))
		if err != nil {
			return nil, homeward.Wrap(err, "enlarge cell", path)
		}
		return OpenCell(fsys, path, max)
	}
	if err := c.write(c.current, c.counter, c.record); err != nil {
		return nil, errors.Join(homeward.Wrap(err, "open cell", path), f.Close())
	}
	return c, nil
}

func slotSize(max int) int64 {
	return (int64(max) + cellHeader + cellAlign - 1) / cellAlign * cellAlign
}

// newCellFile makes a whole cell file that holds one record.
func newCellFile(fsys FS, path string, max int, counter uint64, record []byte) error {
	n, err := Create(fsys, path, 0o600)
	if err != nil {
		return err
	}
	size := slotSize(max)
	err = n.File().Allocate(0, 2*size)
	if err == nil {
		// Written, not only allocated: a later store then changes no metadata.
		_, err = n.WriteAt(append(sealSlot(nil, counter, record), make([]byte, 2*size-cellHeader-int64(len(record)))...), 0)
	}
	if err != nil {
		return errors.Join(err, n.Abort())
	}
	return n.Commit()
}

func sealSlot(buf []byte, counter uint64, record []byte) []byte {
	buf = append(buf[:0], cellMagic...)
	buf = binary.LittleEndian.AppendUint64(buf, counter)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(record)))
	sum := crc32.Update(crc32.Checksum(buf, castagnoli), castagnoli, record)
	buf = binary.LittleEndian.AppendUint32(buf, sum)
	return append(buf, record...)
}

func openSlot(slot []byte) (counter uint64, record []byte, ok bool) {
	if len(slot) < cellHeader || string(slot[:8]) != cellMagic {
		return 0, nil, false
	}
	length := int64(binary.LittleEndian.Uint32(slot[16:]))
	if length > int64(len(slot)-cellHeader) {
		return 0, nil, false
	}
	record = slot[cellHeader : cellHeader+length]
	sum := crc32.Update(crc32.Checksum(slot[:20], castagnoli), castagnoli, record)
	if sum != binary.LittleEndian.Uint32(slot[20:]) {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint64(slot[8:]), record, true
}

// read finds the newest good slot.
func (c *Cell) read() error {
	corrupt := func(format string, args ...any) error {
		return homeward.Errorf("read cell", homeward.Corrupt, c.file.Name(),
			"restore it from a copy, or treat what it described as unknown", format, args...)
	}
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size < 2*cellAlign || size%(2*cellAlign) != 0 || size > 1<<31 {
		return corrupt("a cell of %d bytes", size)
	}
	c.slot = size / 2
	data := make([]byte, size)
	if n, err := c.file.ReadAt(data, 0); int64(n) < size {
		if errors.Is(err, io.EOF) {
			return corrupt("it ends after %d of %d bytes", n, size)
		}
		return err
	}
	found := false
	for i := range int64(2) {
		counter, record, ok := openSlot(data[i*c.slot : (i+1)*c.slot])
		if ok && (!found || counter > c.counter) {
			found, c.current, c.counter, c.record = true, i, counter, bytes.Clone(record)
		}
	}
	if !found {
		return corrupt("neither slot is whole")
	}
	return nil
}

// write puts a record into a slot and makes it durable.
func (c *Cell) write(slot int64, counter uint64, record []byte) error {
	c.buf = sealSlot(c.buf, counter, record)
	if _, err := c.file.WriteAt(c.buf, slot*c.slot); err != nil {
		return err
	}
	return c.file.Sync()
}

// Load returns a copy of the record stored last; nil when none ever was.
func (c *Cell) Load() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return nil, c.refuse("load cell")
	}
	if c.counter == 0 {
		return nil, nil
	}
	return append([]byte{}, c.record...), nil
}

// Store replaces the record, durably when it returns nil. After an error the
// record is the old one or the new one, which only OpenCell can tell: so every
// later call on this Cell errs (I-10).
func (c *Cell) Store(record []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.refuse("store cell")
	}
	if len(record) > c.max {
		return homeward.Errorf("store cell", homeward.Invalid, c.file.Name(),
			"store less, or open the cell for more", "%d bytes, more than %d", len(record), c.max)
	}
	if err := c.write(1-c.current, c.counter+1, record); err != nil {
		c.failed = err
		return homeward.Wrap(err, "store cell", c.file.Name())
	}
	c.current, c.counter = 1-c.current, c.counter+1
	c.record = append(c.record[:0], record...)
	return nil
}

func (c *Cell) refuse(op string) error {
	return homeward.Errorf(op, homeward.KindOf(c.failed), c.file.Name(), "open the cell again",
		"refused, because an earlier store failed: %w", c.failed)
}

// Close closes the file; the record stays.
func (c *Cell) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file.Close()
}
