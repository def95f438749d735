package block

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// LocalOpeners are the openers of this package by scheme: file and device.
func LocalOpeners() Openers { return Openers{"file": OpenFile, "device": OpenDevice} }

// OpenFile opens a raw image file: "file:/path/disk.img". The format is never
// probed: whatever the bytes are, they are the disk.
func OpenFile(ctx context.Context, ref string, m Mode) (Disk, error) {
	path, err := refPath(ctx, ref, "file")
	if err != nil {
		return nil, err
	}
	if m.Create {
		if err := createImage(path, m); err != nil {
			return nil, err
		}
	}
	return openRaw(path, m, imageFile{}, 0, func(mode fs.FileMode) string {
		switch {
		case mode.IsDir():
			return "it is a directory"
		case mode&fs.ModeDevice != 0:
			return "it is a device: write device: instead of file:"
		case !mode.IsRegular():
			return "it is no regular file"
		}
		return ""
	})
}

// OpenDevice opens a block device: "device:/dev/disk/by-id/...". For writing it
// is opened exclusively, so a mounted one is refused by the kernel.
func OpenDevice(ctx context.Context, ref string, m Mode) (Disk, error) {
	path, err := refPath(ctx, ref, "device")
	if err != nil {
		return nil, err
	}
	if m.Create {
		return nil, homeward.Errorf("open disk", homeward.Invalid, ref,
			"create the device first and open it without Create", "a device cannot be created")
	}
	exclusive := unix.O_EXCL
	if m.ReadOnly || m.NoLock {
		exclusive = 0
	}
	return openRaw(path, m, device{}, exclusive, func(mode fs.FileMode) string {
		switch {
		case mode.IsDir():
			return "it is a directory"
		case mode.IsRegular():
			return "it is a file: write file: instead of device:"
		case mode&fs.ModeDevice == 0 || mode&fs.ModeCharDevice != 0:
			return "it is no block device"
		}
		return ""
	})
}

// refPath is the path in a reference; "file:/path" and "file:///path" are alike,
// and a bare absolute path is taken as it is.
func refPath(ctx context.Context, ref, scheme string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", homeward.Wrap(err, "open disk", ref)
	}
	path := strings.TrimPrefix(strings.TrimPrefix(ref, scheme+":"), "//")
	if !filepath.IsAbs(path) {
		return "", homeward.Errorf("open disk", homeward.Invalid, ref,
			"write "+scheme+":/absolute/path", "not a reference to an absolute path")
	}
	return filepath.Clean(path), nil
}

// openRaw opens, checks, locks and measures. refuse says why a file of that mode
// will not do, or nothing.
func openRaw(path string, m Mode, on medium, flags int, refuse func(fs.FileMode) string) (Disk, error) {
	info, err := os.Stat(path) // before the open: opening a FIFO would wait
	if err != nil {
		return nil, durable.SystemError("open disk", path, err)
	}
	if why := refuse(info.Mode()); why != "" {
		return nil, homeward.Errorf("open disk", homeward.Invalid, path, "check the reference", "%s", why)
	}
	flags |= unix.O_RDWR | unix.O_CLOEXEC
	if m.ReadOnly {
		flags = flags&^unix.O_RDWR | unix.O_RDONLY
	}
	var fd int
	err = retry(func() (err error) { fd, err = unix.Open(path, flags, 0); return })
	if err != nil {
		return nil, durable.SystemError("open disk", path, err)
	}
	r := &raw{fd: fd, medium: on, name: path}
	if !m.NoLock {
		err = lock(fd, path, m.ReadOnly)
	}
	if err == nil {
		r.bytes, err = on.size(fd)
		err = durable.SystemError("measure disk", path, err)
	}
	if err == nil {
		err = checkSize(path, r.bytes, m.Size)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if m.ReadOnly {
		return readOnly{r}, nil
	}
	return r, nil
}

// createImage makes a sparse image where there is none. It appears at once, with
// its size, so that a crash leaves no empty image behind.
func createImage(path string, m Mode) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := checkSize(path, m.Size, 0); err != nil {
		return homeward.Errorf("create disk", homeward.Invalid, path,
			"give the size in bytes, a multiple of 512", "size %d", m.Size)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+durable.TempSuffix)
	if err != nil {
		return durable.SystemError("create disk", path, err)
	}
	err = errors.Join(temp.Truncate(m.Size), temp.Sync(), temp.Close())
	if err == nil {
		// A link, unlike a rename, never replaces what somebody else created meanwhile.
		if err = os.Link(temp.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err = errors.Join(err, os.Remove(temp.Name())); err != nil {
		return durable.SystemError("create disk", path, err)
	}
	return durable.OS().SyncDir(filepath.Dir(path))
}

type imageFile struct{}

func (imageFile) holes() bool { return true }

func (imageFile) size(fd int) (int64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Size, err
}

func (imageFile) zero(fd int, off, n int64, punch bool) error {
	mode := uint32(unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_ZERO_RANGE)
	if punch {
		mode = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE
	}
	return unix.Fallocate(fd, mode, off, n)
}

type device struct{}

func (device) holes() bool { return false }

func (device) size(fd int) (int64, error) {
	var size uint64
	if err := ioctl(fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return 0, err
	}
	return int64(size), nil
}

// zero gives room back with PUNCH_HOLE, which the kernel grants on a device only
// if the range then reads as zero; BLKDISCARD promises no such thing, so it is
// not used. BLKZEROOUT works on every device, for whole sectors.
func (device) zero(fd int, off, n int64, punch bool) error {
	if punch {
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, off, n)
		if err == nil {
			return nil
		}
	}
	span := [2]uint64{uint64(off), uint64(n)}
	return ioctl(fd, unix.BLKZEROOUT, unsafe.Pointer(&span))
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
