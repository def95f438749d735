// Package workload is the built-in guest of a local site, for machines without
// QEMU: one process that keeps a record store on its disks the way a database
// would, with a flush before every announcement, and overwrites scratch blocks
// meanwhile.
//
// First disk: records in the first half (record n in block 1 + n mod capacity),
// scratch in the second. Second disk, if there is one: for every record, once it
// is durable on the first, a dependent record of the same number; so a copy that
// holds a dependent record without its cause was not cut at one instant.
package workload

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/site/local/records"
)

// Options of a workload.
type Options struct {
	Disks   []block.Disk
	Console io.Writer
	Gap     time.Duration // between records
	Churn   int           // scratch blocks overwritten per record
}

// Run verifies what it finds, then writes until ctx ends: then it returns nil
// with everything it announced durable. Any I/O error ends it.
func Run(ctx context.Context, o Options) error {
	s, err := open(o.Disks)
	if err != nil {
		return err
	}
	found, err := s.verify()
	if err != nil {
		return err
	}
	// The newest record may lack its dependent one: it was in flight when this
	// machine died. It is written again, as a database replays its log.
	if found.Last > 0 {
		if err := s.append(found.Last); err != nil {
			return err
		}
	}
	if err := say(o.Console, found.Verify(), records.Ready); err != nil {
		return err
	}
	tick := time.NewTicker(max(o.Gap, time.Microsecond))
	defer tick.Stop()
	for seq := found.Last + 1; ; seq++ {
		select {
		case <-ctx.Done():
			return say(o.Console, records.Stopped)
		case <-tick.C:
		}
		if err := s.churn(o.Churn, seq); err != nil {
			return err
		}
		if err := s.append(seq); err != nil {
			return err
		}
		if err := say(o.Console, records.Ack(seq)); err != nil {
			return err
		}
	}
}

// Verify tells what disks hold, without writing.
func Verify(disks []block.Disk) (records.Found, error) {
	s, err := open(disks)
	if err != nil {
		return records.Found{}, err
	}
	return s.verify()
}

func say(w io.Writer, lines ...string) error {
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

type store struct {
	disks    []block.Disk
	capacity uint64 // records kept
	blocks   uint64 // of the first disk
	buf      []byte
}

func open(disks []block.Disk) (*store, error) {
	if len(disks) == 0 {
		return nil, homeward.Errorf("start workload", homeward.Invalid, "disks", "give at least one", "no disk")
	}
	s := &store{disks: disks, blocks: uint64(disks[0].Size()) / records.Size, buf: make([]byte, records.Size)}
	s.capacity = s.blocks/2 - 1
	if len(disks) > 1 {
		s.capacity = min(s.capacity, uint64(disks[1].Size())/records.Size-1)
	}
	if s.blocks < 16 || s.capacity < 4 || s.capacity > s.blocks {
		return nil, homeward.Errorf("start workload", homeward.Invalid, "disks", "give at least 64 KiB each", "too small for records")
	}
	return s, nil
}

func (s *store) offset(seq uint64) int64 { return int64(1+seq%s.capacity) * records.Size }

func (s *store) append(seq uint64) error {
	records.Encode(s.buf, seq, time.Now())
	for _, d := range s.disks[:min(2, len(s.disks))] {
		if _, err := d.WriteAt(s.buf, s.offset(seq)); err != nil {
			return err
		}
		if err := d.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// churn overwrites scratch blocks, unflushed.
func (s *store) churn(n int, seq uint64) error {
	half := s.blocks/2 + 1
	for range n {
		records.Encode(s.buf, seq, time.Now())
		at := int64(half+rand.Uint64N(s.blocks-half)) * records.Size
		if _, err := s.disks[0].WriteAt(s.buf, at); err != nil {
			return err
		}
	}
	return nil
}

// verify finds the newest record and checks the unbroken run below it.
func (s *store) verify() (records.Found, error) {
	var f records.Found
	for i := range min(2, len(s.disks)) {
		last, bad, err := s.scan(s.disks[i])
		if err != nil {
			return f, err
		}
		if i == 0 {
			f.Last, f.Bad = last, bad
			continue
		}
		f.Bad += bad
		if last > f.Last || f.Last > last+1 { // the dependent record may be missing for the last one alone
			f.Bad++
		}
	}
	return f, nil
}

func (s *store) scan(d block.Disk) (last uint64, bad int, err error) {
	held := make([]uint64, s.capacity) // bounded: 8 bytes per record the disk can hold
	chunk := make([]byte, 256*records.Size)
	for first := uint64(0); first < s.capacity; first += 256 {
		n := min(256, s.capacity-first)
		if _, err := d.ReadAt(chunk[:n*records.Size], int64(1+first)*records.Size); err != nil {
			return 0, 0, err
		}
		for i := range n {
			if seq, _, ok := records.Decode(chunk[i*records.Size:]); ok && seq%s.capacity == first+i {
				held[first+i] = seq
				last = max(last, seq)
			}
		}
	}
	// One slot may hold a write that was in flight: the one after the last.
	for seq := last; seq > 0 && seq+s.capacity-1 > last; seq-- {
		if held[seq%s.capacity] != seq {
			bad++
		}
	}
	return last, bad, nil
}
