package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/homeward-dr/homeward/bench/measure"
)

// machine says where it is measured. What cannot be found out stays empty.
func machine(b *measure.Bench) measure.Machine {
	m := measure.Machine{Processors: runtime.NumCPU(), Go: runtime.Version(), Processor: field("/proc/cpuinfo", "model name", ":"),
		System: strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`), FileSystem: fileSystem(b.Dir)}
	var kib int64
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal", ":"), &kib); err == nil {
		m.MemoryMiB = kib >> 10
	}
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(raw))
	}
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(raw), &m.Load) // stays zero
	}
	if out, err := exec.Command(b.Binary, "version").Output(); err == nil {
		m.Homeward, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	return m
}

// field is what stands behind a name in a file of lines.
func field(path, name, sep string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func fileSystem(dir string) string {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return ""
	}
	names := map[int64]string{0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x01021994: "tmpfs", 0x794C7630: "overlayfs"}
	if n, ok := names[s.Type]; ok {
		return n
	}
	return fmt.Sprintf("file system 0x%x", s.Type)
}
