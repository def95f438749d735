package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	liveMagic   = "HWLIVE\x00\x01"
	liveHeader  = 4096
	liveMaps    = 5              // active, frozen, two of spooled cuts, suspect: in any order but the last
	liveSuspect = liveMaps - 1   // region of the suspect map
	liveLostAt  = liveHeader - 8 // not under the checksum: it changes while the file is in use
	bootIDFile  = "/proc/sys/kernel/random/boot_id"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func bootID() (string, error) {
	data, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", durable.SystemError("tell a reboot from a restart", bootIDFile, err)
	}
	return strings.TrimSpace(string(data)), nil
}

// live is the file with the maps of one disk, mapped from tmpfs: a bit set there
// survives kill -9, and the file's absence tells of a reboot. Its room is reserved
// page by page before it is touched, so a full tmpfs is an error and not a signal.
type live struct {
	path string
	file *os.File
	mem  []byte
	maps [liveMaps]*bitmap
	mu   sync.Mutex
	heap map[int64]bool // offsets of pages for which there was no room
	full func(error)    // told about the first of them
	head bool           // there is room for the header

	reserve func(off int64) error // room for a page; a field so that tests take it away
}

// liveID is what must match for a live file to be believed.
type liveID struct {
	boot     string
	instance homeward.ID
	size     int64 // of the disk
}

func (id liveID) header() []byte {
	h := make([]byte, liveHeader)
	copy(h, liveMagic)
	binary.LittleEndian.PutUint64(h[8:], uint64(id.size))
	copy(h[16:32], id.instance[:])
	copy(h[32:160], id.boot)
	binary.LittleEndian.PutUint32(h[160:], crc32.Checksum(h[:160], castagnoli))
	return h
}

func livePath(dir string, disk int) string {
	return filepath.Join(dir, "disk-"+strconv.Itoa(disk)+".live")
}

// createLive makes a new file with empty maps. It cannot be believed before seal.
func createLive(path string, blocks int64, full func(error)) (*live, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, durable.SystemError("remove old live map", path, err)
	}
	return mapLive(path, blocks, os.O_CREATE|os.O_EXCL, full)
}

// reopenLive returns the file that a killed process left, nil when there is none
// that belongs to id, and lost when that process could not keep all bits in it.
func reopenLive(path string, id liveID, blocks int64, full func(error)) (l *live, lost bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, durable.SystemError("open live map", path, err)
	}
	defer func() { _ = f.Close() }() // it is only read
	head := make([]byte, liveHeader)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, false, nil // shorter than a header: never sealed
	}
	if !bytes.Equal(head[:liveLostAt], id.header()[:liveLostAt]) {
		return nil, false, nil
	}
	l, err = mapLive(path, blocks, 0, full)
	if err != nil {
		return nil, false, err
	}
	lost = binary.LittleEndian.Uint64(head[liveLostAt:]) != 0
	if err := l.load(); err != nil {
		return nil, lost, errors.Join(err, l.close())
	}
	return l, lost, nil
}

func mapLive(path string, blocks int64, flag int, full func(error)) (*live, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, durable.SystemError("open live map", path, err)
	}
	l := &live{path: path, file: f, heap: map[int64]bool{}, full: full}
	l.reserve = l.fallocate
	pages := pagesFor(blocks)
	size := liveHeader + liveMaps*pages*pageBytes
	if flag != 0 {
		err = f.Truncate(size)
	} else if info, e := f.Stat(); e != nil || info.Size() != size {
		err = errors.Join(e, unix.EINVAL)
	}
	if err == nil {
		l.mem, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(durable.SystemError("map live map", path, err), f.Close())
	}
	l.head = l.reserve(0) == nil
	for i := range l.maps {
		base := liveHeader + int64(i)*pages*pageBytes
		b := newBitmap(blocks)
		b.allot = func(p int64) *page { return l.allot(base + p*pageBytes) }
		b.drop = func(p int64) { l.drop(base + p*pageBytes) }
		l.maps[i] = b
	}
	return l, nil
}

// load finds the pages that have bits. It reads the file and not the mapping: a
// read does not allot holes.
func (l *live) load() error {
	pages := int64(len(l.maps[0].pages))
	buf := make([]byte, pageBytes)
	empty := make([]byte, pageBytes)
	for i, b := range l.maps {
		for p := range pages {
			off := liveHeader + (int64(i)*pages+p)*pageBytes
			if _, err := l.file.ReadAt(buf, off); err != nil {
				return durable.SystemError("read live map", l.path, err)
			}
			if !bytes.Equal(buf, empty) {
				b.pages[p].Store(l.at(off))
			}
		}
	}
	return nil
}

func (l *live) at(off int64) *page { return (*page)(unsafe.Pointer(&l.mem[off])) }

// allot reserves a page of the file. Without room the page lives in this process
// alone, and the file says so: after kill -9 the disk is wholly suspect.
func (l *live) allot(off int64) *page {
	err := l.reserve(off)
	if err == nil {
		return l.at(off)
	}
	l.mu.Lock()
	first := len(l.heap) == 0
	l.heap[off] = true
	l.mu.Unlock()
	if first {
		if l.head {
			binary.LittleEndian.PutUint64(l.mem[liveLostAt:], 1)
		}
		l.full(durable.SystemError("extend live map", l.path, err))
	}
	return new(page)
}

func (l *live) fallocate(off int64) error {
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(l.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, pageBytes)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = l.file.WriteAt(make([]byte, pageBytes), off)
	}
	return err
}

func (l *live) drop(off int64) {
	l.mu.Lock()
	onHeap := l.heap[off]
	delete(l.heap, off)
	l.mu.Unlock()
	if onHeap {
		return
	}
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if unix.Fallocate(int(l.file.Fd()), punch, off, pageBytes) != nil {
		*l.at(off) = page{} // no holes on this file system: the room stays, the bits go
	}
}

// seal makes the file believable: from now on it has every bit.
func (l *live) seal(id liveID) error {
	if !l.head {
		return homeward.Errorf("write live map", homeward.NoSpace, l.path, "free some space on its file system", "no room for its header")
	}
	lost := binary.LittleEndian.Uint64(l.mem[liveLostAt:])
	head := id.header()
	binary.LittleEndian.PutUint64(head[liveLostAt:], lost)
	copy(l.mem, head)
	return nil
}

func (l *live) close() error {
	err := unix.Munmap(l.mem)
	l.mem = nil
	return durable.SystemError("close live map", l.path, errors.Join(err, l.file.Close()))
}

// remove closes the file and takes its name away.
func (l *live) remove() error {
	return errors.Join(durable.SystemError("remove live map", l.path, os.Remove(l.path)), l.close())
}
