package member

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// mount is one line of /proc/self/mountinfo that holds files of disks.
type mount struct {
	path, fsType, device string
	readOnly             bool
}

// pseudo are file systems of the kernel's own making, or of its memory: nothing on
// them outlives a boot.
var pseudo = []string{
	"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
	"fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "selinuxfs",
	"squashfs", "sysfs", "tmpfs", "tracefs",
}

func (m mount) isPseudo() bool { return slices.Contains(pseudo, m.fsType) }

// isRemote tells of file systems that somebody else serves, who may be away.
func (m mount) isRemote() bool {
	kind, _, _ := strings.Cut(m.fsType, ".")
	return slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "fuse", "ceph", "glusterfs", "afs", "lustre"}, kind)
}

// isFile tells of a single file that is mounted over another, as in containers.
func (m mount) isFile() bool {
	if m.isRemote() {
		return false
	}
	info, err := os.Lstat(m.path)
	return err == nil && !info.IsDir()
}

// parseMounts reads mountinfo(5). A later mount hides an earlier one at the same
// path; lines that are none are left out.
func parseMounts(from io.Reader) ([]mount, error) {
	var mounts []mount
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		m, ok := parseMount(lines.Text())
		if !ok {
			continue
		}
		mounts = slices.DeleteFunc(mounts, func(old mount) bool { return old.path == m.path })
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

// parseMount reads "36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/sda1 rw".
func parseMount(line string) (m mount, ok bool) {
	about, source, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(about), strings.Fields(source)
	if !ok || len(left) < 6 || len(right) < 2 {
		return m, false
	}
	m = mount{path: unescape(left[4]), fsType: right[0], device: unescape(right[1])}
	m.readOnly = slices.Contains(strings.Split(left[5], ","), "ro") ||
		len(right) > 2 && slices.Contains(strings.Split(right[2], ","), "ro")
	return m, true
}

// unescape undoes the octal escapes of blanks and backslashes.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// on is the mount that a path lies on: the longest that leads to it.
func on(mounts []mount, path string) (found mount, ok bool) {
	for _, m := range mounts {
		if within(path, m.path) && (!ok || len(m.path) > len(found.path)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}
