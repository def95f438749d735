// Package growth measures how cost grows: with the number of machines on one process
// server and master target, with the length of history, and with the size of disks.
package growth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"github.com/homeward-dr/homeward/bench/measure"
)

// Chapter is all of it.
func Chapter() measure.Chapter {
	return measure.Chapter{Name: "growth", Quick: true, What: "machines, history, large disks", Measure: chapter}
}

const ours = "Homeward"

func chapter(ctx context.Context, b *measure.Bench) (measure.Figure, error) {
	f := measure.Figure{Title: "Growth: machines, history, large disks", What: what}
	var err error
	for _, part := range []func(context.Context, *measure.Bench) ([]measure.Series, error){machines, histories, sparse} {
		if err == nil {
			var s []measure.Series
			s, err = part(ctx, b)
			f.Series = append(f.Series, s...)
		}
	}
	present(&f)
	return f, err
}

const what = `*Machines*: one agent, one process server and one master target as processes; each machine has
a disk of 64 MiB, writes 100 KiB/s of 4 KiB blocks at random places over NBD and is cut every
second. Processor time is that of the role for one second, 1 being a whole processor; memory
is its largest resident set. At the end each replica is compared with its disk.

*History*: a master target is fed with one cut for each second of a day, faster than they
happened (its clock goes with them), 16 random 4 KiB blocks of 256 MiB each, with the default
retention. Then the oldest, a middle and the newest point are opened over NBD and every byte is
compared with what it was at that instant. It runs in the process that measures; memory is by how
much that grew, some 15 MiB of it being the record of what is to be found.

*Sparse disks*: two images that hold the same megabytes in places all over them and differ in
some thousand blocks, which are found by digest, reading both (cached).`

func label(name, format string, args ...any) measure.Label {
	return measure.Label{Name: name, Value: fmt.Sprintf(format, args...)}
}

// newContent is random content that is the same for the same name.
func newContent(name string) *rand.ChaCha8 { return rand.NewChaCha8(sha256.Sum256([]byte(name))) }

// same compares two files.
func same(a, b string) (err error) {
	var f [2]*os.File
	for i, path := range []string{a, b} {
		if f[i], err = os.Open(path); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f[i].Close()) }()
	}
	var buf [2][]byte
	for i := range buf {
		buf[i] = make([]byte, 1<<20)
	}
	for at := int64(0); ; {
		n, err := io.ReadFull(f[0], buf[0])
		m, other := io.ReadFull(f[1], buf[1])
		if n != m || !bytes.Equal(buf[0][:n], buf[1][:m]) {
			return fmt.Errorf("%s and %s differ in the MiB at %d", a, b, at)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err = errors.Join(err, other); err != nil {
			return err
		}
		at += int64(n)
	}
}
