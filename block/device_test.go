package block_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// loop attaches a backing file of size bytes to a loop device; it needs root.
func loop(t *testing.T, size int64) (device, backing string, control *os.File) {
	t.Helper()
	backing = filepath.Join(t.TempDir(), "backing")
	must(t, os.WriteFile(backing, nil, 0o600), os.Truncate(backing, size))
	file, err := os.OpenFile(backing, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	all, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("this test needs loop devices: run it as root on a kernel that has them: %v", err)
	}
	defer all.Close()
	for { // another process may take the free one first
		n, err := unix.IoctlRetInt(int(all.Fd()), unix.LOOP_CTL_GET_FREE)
		must(t, err)
		device = fmt.Sprintf("/dev/loop%d", n)
		control, err = os.OpenFile(device, os.O_RDWR, 0)
		must(t, err)
		err = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_SET_FD, int(file.Fd()))
		if err == nil {
			break
		}
		_ = control.Close()
		if !errors.Is(err, unix.EBUSY) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CLR_FD, 0)
		_ = control.Close()
	})
	return device, backing, control
}

func TestDevice(t *testing.T) {
	const size = 1<<20 + 512
	device, backing, control := loop(t, size)
	d, err := block.OpenDevice(ctx, "device:"+device, block.Mode{Size: size})
	must(t, err)
	if _, err := block.OpenDevice(ctx, "device:"+device, block.Mode{}); homeward.KindOf(err) != homeward.InUse {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := block.OpenDevice(ctx, "device:"+device, block.Mode{NoLock: true, Size: 4096}); homeward.KindOf(err) != homeward.Invalid {
		t.Errorf("another size: %v", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		must(t, d.Zero(0, size, false))
		walkDisk(t, d)
	})

	ones := bytes.Repeat([]byte{1}, size)
	_, err = d.WriteAt(ones, 0)
	must(t, err, d.Flush(), d.Zero(0, 512<<10, true), d.Flush())
	if n := allocated(t, backing); n > 600<<10 {
		t.Errorf("punching gave no room back: %d bytes are taken", n)
	}
	must(t, block.Resized(d), os.Truncate(backing, 2<<20))
	must(t, unix.IoctlSetInt(int(control.Fd()), unix.LOOP_SET_CAPACITY, 0))
	if err := block.Resized(d); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("grown: %v", err)
	}
	must(t, d.Close())
	d, err = block.OpenDevice(ctx, "device:"+device, block.Mode{ReadOnly: true, Size: 2 << 20})
	must(t, err, d.Close())
}
