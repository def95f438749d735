package capture

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	hotMagic  = "HWHOT\x00\x00\x01"
	hotHeader = 40
	hotSlot   = 8192
	hotFile   = 4 * hotSlot
	maxHot    = 1024
)

// hotLog is the file of the activity log: the extents that may hold marks which
// the checkpoint does not have. Each store writes the whole table twice, into the
// half that the store before it left alone: a torn store leaves the table before,
// and one damaged copy leaves the other.
type hotLog struct {
	file     durable.File
	instance homeward.ID
	sequence uint64
}

// createHotLog makes a file with an empty table, whole or not at all.
func createHotLog(fsys durable.FS, path string, instance homeward.ID) (*hotLog, error) {
	n, err := durable.Create(fsys, path, 0o600)
	if err != nil {
		return nil, err
	}
	h := &hotLog{file: n.File(), instance: instance}
	if err = h.file.Allocate(0, hotFile); err == nil {
		err = h.store(nil)
	}
	if err != nil {
		return nil, errors.Join(err, n.Abort())
	}
	if err := n.Commit(); err != nil {
		return nil, err
	}
	if h.file, err = fsys.OpenFile(path, os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	return h, nil
}

// openHotLog returns the log and the extents in it.
func openHotLog(fsys durable.FS, path string, instance homeward.ID) (*hotLog, []uint32, error) {
	data, err := durable.ReadFile(fsys, path)
	if err != nil {
		return nil, nil, err
	}
	sequence, extents, err := readHot(data, instance)
	if err != nil {
		return nil, nil, homeward.Wrap(err, "read activity log", path)
	}
	f, err := fsys.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return &hotLog{file: f, instance: instance, sequence: sequence}, extents, nil
}

// readHot finds the newest good table in the bytes of a log.
func readHot(data []byte, instance homeward.ID) (sequence uint64, extents []uint32, err error) {
	if len(data) == hotFile {
		for at := 0; at < hotFile; at += hotSlot {
			if s, e, ok := decodeHot(data[at:at+hotSlot], instance); ok && s > sequence {
				sequence, extents = s, e
			}
		}
	}
	if sequence == 0 {
		return 0, nil, homeward.Errorf("decode", homeward.Corrupt, "", "", "no table in it is whole")
	}
	return sequence, extents, nil
}

func decodeHot(b []byte, instance homeward.ID) (sequence uint64, extents []uint32, ok bool) {
	n := binary.LittleEndian.Uint32(b[32:])
	if string(b[:8]) != hotMagic || homeward.ID(b[16:32]) != instance || n > maxHot {
		return 0, nil, false
	}
	table := b[hotHeader : hotHeader+4*n]
	if hotSum(b, table) != binary.LittleEndian.Uint32(b[36:]) {
		return 0, nil, false
	}
	for ; len(table) > 0; table = table[4:] {
		extents = append(extents, binary.LittleEndian.Uint32(table))
	}
	return binary.LittleEndian.Uint64(b[8:]), extents, true
}

func hotSum(b, table []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:36], castagnoli), castagnoli, table)
}

// store makes the table durable; at most maxHot extents.
func (h *hotLog) store(extents []uint32) error {
	h.sequence++
	b := make([]byte, 2*hotSlot)
	copy(b, hotMagic)
	binary.LittleEndian.PutUint64(b[8:], h.sequence)
	copy(b[16:32], h.instance[:])
	binary.LittleEndian.PutUint32(b[32:], uint32(len(extents)))
	table := b[hotHeader:hotHeader]
	for _, e := range extents {
		table = binary.LittleEndian.AppendUint32(table, e)
	}
	binary.LittleEndian.PutUint32(b[36:], hotSum(b, table))
	copy(b[hotSlot:], b[:hotSlot])
	if _, err := h.file.WriteAt(b, int64(h.sequence%2)*2*hotSlot); err != nil {
		return err
	}
	return h.file.Sync()
}
