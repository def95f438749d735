//go:build linux

// Command guestinit is the whole user space of the test guest: started by the
// kernel as /init, it mounts the first disk, verifies the records it finds,
// appends records with an fsync each (on a second disk, if there is one, it keeps
// the newest record's number in the first block, written after it), and powers off when told to on the second
// serial port.
//
// Kernel command line: mode=write (default) or mode=verify; gap_ms=N between
// records; churn=N scratch blocks overwritten per record.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward/site/local/records"
)

const (
	disk      = "/dev/vda"
	dependent = "/dev/vdb"
	scratch   = 4096 // blocks of the scratch file
)

func main() {
	err := run()
	if err != nil {
		fmt.Println("GUEST-ERROR", err)
	}
	unix.Sync()
	if err == nil {
		fmt.Println(records.Stopped)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"dev", "/dev", "devtmpfs"}} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	args, err := cmdline()
	if err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := await(disk); err != nil {
		return err
	}
	if err := unix.Mount(disk, "/mnt", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", disk, err)
	}
	err = keep(args)
	if e := unix.Unmount("/mnt", 0); err == nil {
		err = e
	}
	return err
}

// loadModules loads the driver of the disks, in the order of its files' names.
func loadModules() error {
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

func keep(args map[string]string) error {
	f, err := os.OpenFile("/mnt/records", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	second, err := openDependent()
	if err != nil {
		return err
	}
	found, err := verify(f, second)
	if err != nil {
		return err
	}
	fmt.Println(found.Verify())
	if args["mode"] == "verify" {
		return nil
	}
	var stop atomic.Bool
	go listen(&stop) // ends with the machine
	fmt.Println(records.Ready)
	return write(f, second, found.Last, number(args["gap_ms"]), number(args["churn"]), &stop)
}

// openDependent is nil where the machine has one disk.
func openDependent() (*os.File, error) {
	f, err := os.OpenFile(dependent, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no second disk is no error
	}
	return f, err
}

func write(f, second *os.File, last uint64, gap, churn int, stop *atomic.Bool) error {
	s, err := os.OpenFile("/mnt/scratch", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer s.Close()
	buf := make([]byte, records.Size)
	for seq := last + 1; !stop.Load(); seq++ {
		records.Encode(buf, seq, time.Now())
		for range churn {
			if _, err := s.WriteAt(buf, rand.Int64N(scratch)*records.Size); err != nil {
				return err
			}
		}
		if _, err := f.WriteAt(buf, int64(seq-1)*records.Size); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if second != nil {
			if _, err := second.WriteAt(buf, 0); err != nil {
				return err
			}
			if err := second.Sync(); err != nil {
				return err
			}
		}
		fmt.Println(records.Ack(seq))
		time.Sleep(time.Duration(gap) * time.Millisecond) // the pace of the workload, not a wait for an event
	}
	return nil
}

func verify(f, second *os.File) (records.Found, error) {
	var found records.Found
	buf := make([]byte, records.Size)
	broken := uint64(0)
	for n := uint64(1); ; n++ {
		_, err := f.ReadAt(buf, int64(n-1)*records.Size)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return found, err
		}
		seq, _, ok := records.Decode(buf)
		switch {
		case ok && seq == n && broken == 0:
			found.Last = n
		case ok && seq == n:
			found.Bad++ // a whole record above a hole: the hole was announced
		case broken == 0:
			broken = n // the write in flight when the machine died
		}
	}
	if second == nil {
		return found, nil
	}
	if _, err := second.ReadAt(buf, 0); err != nil {
		return found, err
	}
	if seq, _, ok := records.Decode(buf); ok && seq > found.Last {
		found.Bad++ // a dependent record without its cause
	}
	return found, nil
}

// listen waits for "poweroff" on the second serial port.
func listen(stop *atomic.Bool) {
	// Opened without waiting for a carrier, which no one raises here.
	fd, err := unix.Open("/dev/ttyS1", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil || unix.SetNonblock(fd, false) != nil {
		return
	}
	tty := os.NewFile(uintptr(fd), "/dev/ttyS1")
	for sc := bufio.NewScanner(tty); sc.Scan(); {
		if strings.TrimSpace(sc.Text()) == "poweroff" {
			stop.Store(true)
		}
	}
}

func cmdline() (map[string]string, error) {
	raw, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	args := map[string]string{}
	for _, f := range strings.Fields(string(raw)) {
		k, v, _ := strings.Cut(f, "=")
		args[k] = v
	}
	return args, nil
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // absent: 0
	return n
}

// await waits for a device node; the kernel finds disks while /init runs.
func await(dev string) error {
	for range 1000 {
		if _, err := os.Stat(dev); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond) // devtmpfs tells nobody of new nodes
	}
	return fmt.Errorf("no disk %s after 10 s", dev)
}
