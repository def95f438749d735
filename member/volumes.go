package member

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/homeward-dr/homeward"
)

// The uses of a volume (homeward.Volume.Uses).
const (
	UseRetention    = "retention"    // points are kept there
	UseReplica      = "replica"      // a replica disk lies there
	UseInstallation = "installation" // this program does
	UseCache        = "cache"        // what a role keeps for itself does
	UseSystem       = "system"       // the operating system does
)

// Use is a path, and what it is used for. It need not exist yet.
type Use struct {
	Path, As string
}

// Declared is a directory that its operator gives points to keep, which makes it a
// volume of its own in every list, mount point or not.
type Declared struct {
	Path    string
	Default bool
}

// system are directories whose file systems are the operating system's.
var system = []string{"/", "/boot", "/boot/efi", "/etc", "/opt", "/usr", "/var", "/tmp", "/var/log", "/var/tmp"}

// Volumes lists the mounted file systems and the declared directories, by path,
// with what each is used for. Pseudo file systems are left out, unless something of
// ours lies on one. Of file systems elsewhere that nothing of ours lies on neither
// size nor free space is asked, because a server that is away would hold up the
// heartbeat: they are unknown.
func Volumes(declared []Declared, uses []Use) ([]homeward.Volume, error) {
	const table = "/proc/self/mountinfo"
	f, err := os.Open(table)
	if err != nil {
		return nil, homeward.Errorf("list volumes", homeward.IO, table, "mount /proc", "%w", err)
	}
	defer func() { _ = f.Close() }() // only read
	mounts, err := parseMounts(f)
	if err != nil {
		return nil, homeward.Errorf("list volumes", homeward.IO, table, "", "%w", err)
	}
	return volumes(mounts, declared, uses), nil
}

func volumes(mounts []mount, declared []Declared, uses []Use) []homeward.Volume {
	all := slices.Clone(mounts)
	given := map[string]Declared{}
	for _, d := range declared { // as if it were mounted: longer than what it lies on
		path := resolve(d.Path)
		d.Default = d.Default || given[path].Default
		given[path] = d
		if m, ok := on(all, path); ok && m.path != path { // else it is there: mounted, or given before
			m.path = path
			all = append(all, m)
		}
		uses = append(uses, Use{path, UseRetention})
	}
	if self, err := os.Executable(); err == nil {
		uses = append(uses, Use{self, UseInstallation})
	}
	used := map[string][]string{}
	for _, u := range uses {
		if m, ok := on(all, resolve(u.Path)); ok && !slices.Contains(used[m.path], u.As) {
			used[m.path] = append(used[m.path], u.As)
		}
	}
	var list []homeward.Volume
	for _, m := range all {
		ours := len(used[m.path]) > 0
		if !ours && (m.isPseudo() || m.isFile()) {
			continue
		}
		if slices.Contains(system, m.path) {
			used[m.path] = append(used[m.path], UseSystem)
		}
		v := volume(m, ours, used[m.path])
		if d, is := given[m.path]; is { // by the name its operator knows
			v.Path, v.Default = d.Path, d.Default
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b homeward.Volume) int { return strings.Compare(a.Path, b.Path) })
	return list
}

func volume(m mount, ours bool, uses []string) homeward.Volume {
	v := homeward.Volume{Path: m.path, Device: m.device, FSType: m.fsType, ReadOnly: m.readOnly, Uses: uses}
	slices.Sort(v.Uses)
	var s syscall.Statfs_t
	if m.isRemote() && !ours || syscall.Statfs(m.path, &s) != nil {
		v.Unknown = []string{"size", "free"}
		return v
	}
	v.Size, v.Free = int64(s.Blocks)*s.Bsize, int64(s.Bavail)*s.Bsize
	return v
}

// resolve follows links as far as the path exists: the rest lies below that.
func resolve(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			return filepath.Join(real, rest)
		}
		if !errors.Is(err, fs.ErrNotExist) || at == "/" {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
