package reprotect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward/durable"
)

// filled is how much of a disk holds data, from its beginning; the rest was never
// written. Three pairs of images have to find room on one disk.
const filled = 4 * gib

// fill makes files of a size that hold the same data, which does not compress.
func fill(ctx context.Context, seed uint64, size int64, paths ...string) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // synced before
		}
	}()
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		files = append(files, f)
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	err := inPieces(ctx, min(size, filled), func(buf, _ []byte, at int64) error {
		_, _ = rand.NewChaCha8(key(seed, uint64(at))).Read(buf) // never fails
		for _, f := range files {
			if _, err := f.WriteAt(buf, at); err != nil {
				return err
			}
		}
		return nil
	})
	for _, f := range files {
		err = errors.Join(err, f.Sync()) // or it would be written while others are measured
	}
	return err
}

// inPieces does something with each MiB of a range, on all processors. Each worker
// has two buffers.
func inPieces(ctx context.Context, size int64, do func(a, b []byte, at int64) error) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			a, b := make([]byte, mib), make([]byte, mib)
			for {
				at := next.Add(mib) - mib
				if at >= size || ctx.Err() != nil {
					return ctx.Err()
				}
				n := min(mib, size-at)
				if err := do(a[:n], b[:n], at); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// same compares two files, byte by byte where either holds data.
func same(ctx context.Context, source, target string) (err error) {
	var files [2]*os.File
	var sizes [2]int64
	for i, path := range []string{source, target} {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it was only read
		st, err := f.Stat()
		if err != nil {
			return err
		}
		files[i], sizes[i] = f, st.Size()
	}
	if sizes[0] != sizes[1] {
		return fmt.Errorf("the disks differ: %d and %d bytes", sizes[0], sizes[1])
	}
	return inPieces(ctx, sizes[0], func(a, b []byte, at int64) error {
		if hole(files[0], at, int64(len(a))) && hole(files[1], at, int64(len(a))) {
			return nil
		}
		if _, err := files[0].ReadAt(a, at); err != nil {
			return err
		}
		if _, err := files[1].ReadAt(b, at); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			i := 0
			for a[i] == b[i] {
				i++
			}
			return fmt.Errorf("the disks differ, first at byte %d of the MiB at %d", i, at)
		}
		return nil
	})
}

// hole reports that nothing was ever written to a range.
func hole(f *os.File, at, n int64) bool {
	data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	return errors.Is(err, unix.ENXIO) || err == nil && data >= at+n
}

// settle makes a file durable.
func settle(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// forgetCached has a file be read from storage next time.
func forgetCached(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync() // what is not written yet would stay
	if err == nil {
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	return errors.Join(err, f.Close())
}

// write stores a small file that a program is to find.
func write(path, content string) error {
	return durable.WriteFile(durable.OS(), path, []byte(content), 0o600)
}
