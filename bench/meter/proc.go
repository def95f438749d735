package meter

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/homeward-dr/homeward"
)

// account is what a process and its children that ended used since it began.
type account struct {
	cpu           float64 // seconds
	read, fetched int64
}

// ticks is how many of the clock ticks in /proc/PID/stat a second has: Linux tells
// user space 100, on every machine.
const ticks = 100

// read reads the account of a process, also of one that ended and is not waited for.
func read(pid int) (a account, err error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	f, err := stat(dir)
	if err != nil {
		return a, homeward.Errorf("meter", homeward.NotFound, fmt.Sprintf("process %d", pid), "meter a process that runs", "%w", err)
	}
	// Fields 14 to 17, counted from 1: user and system time, own and of children.
	own, children := float64(f[11]+f[12])/ticks, float64(f[13]+f[14])/ticks
	// A tick is coarse: living threads tell theirs in nanoseconds. The larger one is
	// right, for the coarse one knows ended threads.
	a.cpu = max(own, threads(dir)) + children
	raw, err := os.ReadFile(filepath.Join(dir, "io"))
	if err != nil {
		return a, homeward.Errorf("meter", homeward.Forbidden, fmt.Sprintf("process %d", pid), "run as root", "%w", err)
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "rchar":
			a.read = n
		case name == "read_bytes":
			a.fetched = n
		}
	}
	return a, nil
}

// stat are the numbers of /proc/PID/stat from the fourth field on; the third is a
// letter, and the second, a name, may hold anything.
func stat(dir string) ([]int64, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(raw, ')')
	f := bytes.Fields(raw[end+1:])
	if end < 0 || len(f) < 22 {
		return nil, fmt.Errorf("%s/stat: %q", dir, raw)
	}
	numbers := make([]int64, len(f))
	for i := 1; i < len(f); i++ {
		numbers[i], _ = strconv.ParseInt(string(f[i]), 10, 64) // the few that are larger are addresses
	}
	return numbers, nil
}

// threads is the time that living threads ran, in seconds; 0 where it is not told.
func threads(dir string) (sum float64) {
	files, err := filepath.Glob(filepath.Join(dir, "task", "*", "schedstat"))
	if err != nil {
		return 0
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(raw), &ns); err == nil {
			sum += float64(ns) / 1e9
		}
	}
	return sum
}

// peak is the largest resident set of a process in bytes; 0: it is gone.
func peak(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// forgetPeak begins the largest resident set of a process anew.
func forgetPeak(pid int) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/clear_refs", pid), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("5")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return homeward.Errorf("meter", homeward.Forbidden, fmt.Sprintf("process %d", pid), "meter a process of one's own that runs, or run as root", "%w", err)
	}
	return nil
}

// family are processes and all that they started, and those.
func family(roots map[int]bool) (pids []int) {
	if len(roots) == 0 {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	parent := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f, err := stat("/proc/" + e.Name()); err == nil {
			parent[pid] = int(f[1])
		}
	}
	for pid := range parent {
		for up := pid; up > 1; up = parent[up] {
			if roots[up] {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}
