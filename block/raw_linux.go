package block

import (
	"errors"
	"io"
	"iter"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// medium is what differs between an image file and a block device.
type medium interface {
	// size as it is now.
	size(fd int) (int64, error)
	// zero makes a range read as zero, or says EOPNOTSUPP.
	zero(fd int, off, n int64, punch bool) error
	// holes reports whether SEEK_DATA tells holes from data.
	holes() bool
}

// raw is a Disk over a file descriptor. Its read and write paths allocate
// nothing and take no exclusive lock.
type raw struct {
	// open is held shared by every request and exclusively by Close, so that a late
	// request never hits a descriptor that has become another file.
	open    sync.RWMutex
	fd      int
	medium  medium
	name    string
	bytes   int64
	poison  durable.Poison
	noZero  [2]atomic.Bool // zeroing (plain, punching) is not supported: write zeroes
	noDsync atomic.Bool    // RWF_DSYNC is not supported: flush instead
}

func (r *raw) Size() int64 { return r.bytes }

// beginRequest checks a request and holds the descriptor; endRequest must follow when it is nil.
func (r *raw) beginRequest(op string, off, n int64) error {
	if err := checkRange(op, r.name, r.bytes, off, n); err != nil {
		return err
	}
	r.open.RLock()
	if r.fd < 0 {
		r.open.RUnlock()
		return homeward.Errorf(op, homeward.Unavailable, r.name, "open it again", "the disk is closed")
	}
	return nil
}

func (r *raw) endRequest() { r.open.RUnlock() }

func (r *raw) ReadAt(p []byte, off int64) (int, error) {
	if err := r.beginRequest("read disk", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer r.endRequest()
	done := 0
	for done < len(p) {
		n, err := unix.Pread(r.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, durable.SystemError("read disk", r.name, err)
		case n == 0:
			return done, r.shrunk("read disk")
		default:
			done += n
		}
	}
	return done, nil
}

func (r *raw) WriteAt(p []byte, off int64) (int, error) {
	if err := r.beginRequest("write disk", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer r.endRequest()
	return r.write(p, off)
}

func (r *raw) write(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pwrite(r.fd, p[done:], off+int64(done))
		if err = progress(n, err); err != nil {
			return done, durable.SystemError("write disk", r.name, err)
		}
		done += max(n, 0)
	}
	return done, nil
}

// progress turns a write that neither failed nor wrote into an error.
func progress(n int, err error) error {
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err == nil && n == 0 {
		return io.ErrShortWrite
	}
	return err
}

// WriteAtFUA writes with RWF_DSYNC, or writes and flushes where there is none.
func (r *raw) WriteAtFUA(p []byte, off int64) (int, error) {
	if err := r.beginRequest("write disk", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer r.endRequest()
	if r.noDsync.Load() {
		return r.writeThenFlush(p, off)
	}
	if err := r.poison.Err(); err != nil {
		return 0, r.flush()
	}
	done := 0
	for done < len(p) {
		n, err := unix.Pwritev2(r.fd, [][]byte{p[done:]}, off+int64(done), unix.RWF_DSYNC)
		if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL) {
			r.noDsync.Store(true)
			return r.writeThenFlush(p, off)
		}
		if err = progress(n, err); err != nil {
			err = durable.SystemError("write disk", r.name, err)
			if homeward.KindOf(err) != homeward.NoSpace { // that one left nothing behind in the cache
				return done, r.poison.Sync(r.name, func() error { return err })
			}
			return done, err
		}
		done += max(n, 0)
	}
	return done, nil
}

func (r *raw) writeThenFlush(p []byte, off int64) (int, error) {
	n, err := r.write(p, off)
	if err == nil {
		err = r.flush()
	}
	return n, err
}

func (r *raw) Zero(off, n int64, punch bool) error {
	if err := r.beginRequest("zero disk", off, n); err != nil || n == 0 {
		if err == nil {
			r.endRequest()
		}
		return err
	}
	defer r.endRequest()
	unsupported := &r.noZero[0]
	if punch {
		unsupported = &r.noZero[1]
	}
	if !unsupported.Load() {
		err := retry(func() error { return r.medium.zero(r.fd, off, n, punch) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINVAL): // a device wants whole sectors
		case errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.ENOTTY):
			unsupported.Store(true)
		default:
			return durable.SystemError("zero disk", r.name, err)
		}
	}
	return r.writeZeroes(off, n)
}

// writeZeroes is Zero where the medium has no better way.
func (r *raw) writeZeroes(off, n int64) error {
	for end := off + n; off < end; off += int64(len(zeroes)) {
		if _, err := r.write(zeroes[:min(int64(len(zeroes)), end-off)], off); err != nil {
			return err
		}
	}
	return nil
}

// Flush also finds out that the medium shrank: writes beyond its new end would
// otherwise seem to succeed on an image file.
func (r *raw) Flush() error {
	if err := r.beginRequest("flush disk", 0, 0); err != nil {
		return err
	}
	defer r.endRequest()
	if err := r.flush(); err != nil {
		return err
	}
	if now, err := r.medium.size(r.fd); err == nil && now < r.bytes {
		return r.shrunk("flush disk")
	}
	return nil
}

func (r *raw) flush() error {
	return r.poison.Sync(r.name, func() error {
		return retry(func() error { return unix.Fdatasync(r.fd) })
	})
}

func (r *raw) shrunk(op string) error {
	now, err := r.medium.size(r.fd)
	if err != nil {
		return durable.SystemError(op, r.name, err)
	}
	return homeward.Errorf(op, homeward.IO, r.name,
		"restore its size, or replace it; it holds less than the disk had",
		"it shrank from %d to %d bytes while open", r.bytes, now)
}

func (r *raw) Resized() error {
	if err := r.beginRequest("check size", 0, 0); err != nil {
		return err
	}
	defer r.endRequest()
	now, err := r.medium.size(r.fd)
	if err != nil {
		return durable.SystemError("check size", r.name, err)
	}
	if now == r.bytes {
		return nil
	}
	return homeward.Errorf("check size", homeward.Conflict, r.name,
		"open it again to use its new size", "it had %d bytes when opened and has %d now", r.bytes, now)
}

func (r *raw) Close() error {
	r.open.Lock()
	defer r.open.Unlock()
	if r.fd < 0 {
		return nil
	}
	fd := r.fd
	r.fd = -1
	return durable.SystemError("close disk", r.name, unix.Close(fd))
}

func (r *raw) Extents(off, n int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		if err := checkRange("list extents", r.name, r.bytes, off, n); err != nil {
			yield(Extent{}, err)
			return
		}
		for at, end := off, off+n; at < end; {
			e, err := r.extent(at, end)
			if !yield(e, err) || err != nil {
				return
			}
			at += e.Len
		}
	}
}

// extent is the one that begins at off, cut at end.
func (r *raw) extent(off, end int64) (Extent, error) {
	if err := r.beginRequest("list extents", off, end-off); err != nil {
		return Extent{}, err
	}
	defer r.endRequest()
	all := Extent{Off: off, Len: end - off}
	if !r.medium.holes() {
		return all, nil
	}
	data, err := r.seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // a hole up to the end of the file
		all.Hole, all.Zero = true, true
		return all, nil
	case errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported): // a file system that does not know
		return all, nil
	case err != nil:
		return Extent{}, durable.SystemError("list extents", r.name, err)
	case data > off:
		return Extent{Off: off, Len: min(data, end) - off, Hole: true, Zero: true}, nil
	}
	hole, err := r.seek(off, unix.SEEK_HOLE)
	if err != nil {
		return Extent{}, durable.SystemError("list extents", r.name, err)
	}
	if hole <= off { // it became a hole just now: call it data, which is always true
		return all, nil
	}
	all.Len = min(hole, end) - off
	return all, nil
}

func (r *raw) seek(off int64, whence int) (int64, error) {
	for {
		at, err := unix.Seek(r.fd, off, whence)
		if err != unix.EINTR {
			return at, err
		}
	}
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
