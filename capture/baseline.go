package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

const (
	baselineMagic  = "HWBASE\x00\x01"
	baselineHeader = 4096
	baselinePrefix = "baseline-"
	groupLeaves    = 256 // blocks of a group: 1 MiB
	groupBytes     = groupLeaves * len(block.Hash{})
	groupBatch     = 16 // groups hashed at a time
)

// Late remembers the state of disks whose first writes nobody sees, and finds
// what was written since, to the block, by reading them once more. Its files hold
// 32 bytes per 4 KiB of data; ranges of zeroes take no room.
type Late struct {
	Disks []block.Disk
	Dir   string
	FS    durable.FS // default durable.OS()
}

// Baseline names a remembered state.
type Baseline struct {
	ID   homeward.ID
	Read int64 // bytes of disk read to make it
}

// Changes are what differs from a baseline, by disk.
type Changes struct {
	Changed []*block.Map
	Suspect []*block.Map // everything, when the baseline is lost
	Reasons [][]string
	Read    int64 // bytes of disk read to find out
}

// Baseline remembers the disks of the machine: see Late.
func (m *Machine) Baseline(ctx context.Context) (Baseline, error) { return m.late().Baseline(ctx) }

// ChangedSince tells what differs from a baseline: see Late.
func (m *Machine) ChangedSince(ctx context.Context, id homeward.ID) (Changes, error) {
	return m.late().ChangedSince(ctx, id)
}

func (m *Machine) late() Late {
	return Late{Disks: m.cfg.Disks, Dir: m.cfg.Dir, FS: m.cfg.FS}
}

func (l Late) fsys() durable.FS {
	if l.FS == nil {
		return durable.OS()
	}
	return l.FS
}

func (l Late) path(id homeward.ID, disk int) string {
	return filepath.Join(l.Dir, fmt.Sprintf("%s%s-%d", baselinePrefix, id, disk))
}

// Baseline reads all disks and remembers them durably. Nobody may write to them
// meanwhile. A baseline before it is forgotten when the new one is whole.
func (l Late) Baseline(ctx context.Context) (Baseline, error) {
	b := Baseline{ID: homeward.NewID()}
	if err := l.fsys().MkdirAll(l.Dir, 0o700); err != nil {
		return b, err
	}
	for i, d := range l.Disks {
		read, err := l.remember(ctx, d, l.path(b.ID, i), b.ID)
		b.Read += read
		if err != nil {
			return b, errors.Join(homeward.Wrap(err, "make baseline", fmt.Sprintf("disk %d", i)), l.remove(func(name string) bool { return strings.HasPrefix(name, baselinePrefix+b.ID.String()) }))
		}
	}
	return b, l.remove(func(name string) bool { return !strings.HasPrefix(name, baselinePrefix+b.ID.String()) })
}

// Forget removes every baseline.
func (l Late) Forget() error { return l.remove(func(string) bool { return true }) }

func (l Late) remove(which func(name string) bool) error {
	list, err := l.fsys().ReadDir(l.Dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), baselinePrefix) && which(e.Name()) {
			err = errors.Join(err, l.fsys().Remove(filepath.Join(l.Dir, e.Name())))
		}
	}
	return errors.Join(err, l.fsys().SyncDir(l.Dir))
}

func groupsOf(size int64) int64 { return (block.BlocksOf(size) + groupLeaves - 1) / groupLeaves }

// leavesAt is where the hashes of the blocks of a group are in a baseline.
func leavesAt(size, group int64) int64 {
	table := groupsOf(size) * int64(len(block.Hash{}))
	return baselineHeader + (table+4095)/4096*4096 + group*int64(groupBytes)
}

func (l Late) remember(ctx context.Context, d block.Disk, path string, id homeward.ID) (int64, error) {
	n, err := durable.Create(l.fsys(), path, 0o600)
	if err != nil {
		return 0, err
	}
	var table bytes.Buffer
	size := d.Size()
	err = n.File().Truncate(leavesAt(size, groupsOf(size)))
	if err == nil {
		err = eachGroup(ctx, d, func(group int64, leaves []byte, zero bool) error {
			if zero {
				table.Write(make([]byte, len(block.Hash{})))
				return nil
			}
			sum := blake3.Sum256(leaves)
			table.Write(sum[:])
			_, err := n.WriteAt(leaves, leavesAt(size, group))
			return err
		})
	}
	if err == nil {
		_, err = n.WriteAt(append(baselineHead(id, size, table.Bytes()), table.Bytes()...), 0)
	}
	if err != nil {
		return 0, errors.Join(err, n.Abort())
	}
	read, err := dataBytes(d)
	return read, errors.Join(err, n.Commit())
}

// dataBytes is how much of a disk has to be read to read it all.
func dataBytes(d block.Disk) (n int64, err error) {
	for e, err := range block.Extents(d, 0, d.Size()) {
		if err != nil {
			return n, err
		}
		if !e.Zero {
			n += e.Len
		}
	}
	return n, nil
}

func baselineHead(id homeward.ID, size int64, table []byte) []byte {
	h := make([]byte, baselineHeader)
	copy(h, baselineMagic)
	copy(h[8:24], id[:])
	binary.LittleEndian.PutUint64(h[24:], uint64(size))
	sum := blake3.Sum256(table)
	copy(h[32:64], sum[:])
	binary.LittleEndian.PutUint32(h[64:], crc32.Checksum(h[:64], castagnoli))
	return h
}

// eachGroup calls do with the hashes of the blocks of each group, ascending.
func eachGroup(ctx context.Context, d block.Disk, do func(group int64, leaves []byte, zero bool) error) error {
	tree := block.NewTree(d)
	blocks := block.BlocksOf(d.Size())
	zero := block.Hash(blake3.Sum256(make([]byte, block.Size)))
	for first := int64(0); first < blocks; first += groupBatch * groupLeaves {
		hashes, err := tree.Hashes(ctx, 0, first, min(groupBatch*groupLeaves, blocks-first))
		if err != nil {
			return err
		}
		for at := 0; at < len(hashes); at += groupLeaves {
			leaves := make([]byte, 0, groupBytes)
			empty := true
			for _, h := range hashes[at:min(at+groupLeaves, len(hashes))] {
				empty = empty && h == zero
				leaves = append(leaves, h[:]...)
			}
			if err := do((first+int64(at))/groupLeaves, leaves, empty); err != nil {
				return err
			}
		}
	}
	return nil
}

// ChangedSince reads all disks and compares them with a baseline. Where that is
// lost or damaged the whole disk is suspect, with the reason; that is no error.
// Invalid when a disk shrank.
func (l Late) ChangedSince(ctx context.Context, id homeward.ID) (Changes, error) {
	var c Changes
	for i, d := range l.Disks {
		blocks := block.BlocksOf(d.Size())
		changed, suspect := block.NewMap(blocks), block.NewMap(blocks)
		var reasons []string
		read, err := l.compare(ctx, d, l.path(id, i), id, changed)
		if homeward.KindOf(err) == homeward.NotFound || homeward.KindOf(err) == homeward.Corrupt {
			reasons = append(reasons, "baseline lost: "+err.Error())
			changed.Clear()
			suspect.Set(0, blocks)
		} else if err != nil {
			return c, homeward.Wrap(err, "compare with baseline", fmt.Sprintf("disk %d", i))
		}
		c.Read += read
		c.Changed, c.Suspect, c.Reasons = append(c.Changed, changed), append(c.Suspect, suspect), append(c.Reasons, reasons)
	}
	return c, nil
}

func (l Late) compare(ctx context.Context, d block.Disk, path string, id homeward.ID, changed *block.Map) (int64, error) {
	f, err := l.fsys().OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	size, table, err := readBaseline(f, id, d.Size())
	if err != nil {
		return 0, homeward.Wrap(err, "read baseline", path)
	}
	if size > d.Size() {
		return 0, homeward.Errorf("compare", homeward.Invalid, path, "restore the disk's size", "it had %d bytes, and has %d", size, d.Size())
	}
	known := block.BlocksOf(size)
	if size%block.Size != 0 && size < d.Size() {
		known-- // the last block was partial, and is whole now
	}
	err = eachGroup(ctx, d, func(group int64, leaves []byte, _ bool) error {
		return diffGroup(f, size, table, group, leaves, changed, known)
	})
	if err != nil {
		return 0, err
	}
	changed.Set(known, block.BlocksOf(d.Size())-known)
	return dataBytes(d)
}

func readBaseline(f durable.File, id homeward.ID, most int64) (size int64, table []byte, err error) {
	corrupt := func() (int64, []byte, error) {
		return 0, nil, homeward.Errorf("decode", homeward.Corrupt, "", "", "it is damaged")
	}
	head := make([]byte, baselineHeader)
	if err := readZeroes(f, head, 0); err != nil {
		return 0, nil, err
	}
	size = int64(binary.LittleEndian.Uint64(head[24:]))
	if crc32.Checksum(head[:64], castagnoli) != binary.LittleEndian.Uint32(head[64:]) || size <= 0 {
		return corrupt()
	}
	if size > most {
		return size, nil, nil // the caller refuses it
	}
	table = make([]byte, groupsOf(size)*int64(len(block.Hash{})))
	if err := readZeroes(f, table, baselineHeader); err != nil {
		return 0, nil, err
	}
	if !bytes.Equal(head, baselineHead(id, size, table)) {
		return corrupt()
	}
	return size, table, nil
}

// diffGroup adds the blocks of a group, before known, whose hash is another than
// the baseline has.
func diffGroup(f durable.File, size int64, table []byte, group int64, now []byte, changed *block.Map, known int64) error {
	const each = int64(len(block.Hash{}))
	if group >= groupsOf(size) {
		return nil
	}
	want := block.Hash(table[group*each : (group+1)*each])
	n := min(groupLeaves, block.BlocksOf(size)-group*groupLeaves)
	before := make([]byte, n*each)
	if want == (block.Hash{}) {
		for i := range n {
			leaf := blake3.Sum256(make([]byte, min(block.Size, size-(group*groupLeaves+i)*block.Size)))
			copy(before[i*each:], leaf[:])
		}
	} else {
		if int64(len(now)) == n*each && block.Hash(blake3.Sum256(now)) == want {
			return nil
		}
		if err := readZeroes(f, before, leavesAt(size, group)); err != nil {
			return err
		}
		if block.Hash(blake3.Sum256(before)) != want {
			return homeward.Errorf("decode", homeward.Corrupt, "", "", "hashes of group %d are damaged", group)
		}
	}
	for i := range n {
		at := group*groupLeaves + i
		if at < known && !bytes.Equal(before[i*each:(i+1)*each], now[i*each:(i+1)*each]) {
			changed.Set(at, 1)
		}
	}
	return nil
}
