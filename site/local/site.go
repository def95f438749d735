package local

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/member"
)

// Guest says what a machine runs as.
type Guest string

// The guests.
const (
	GuestQEMU    Guest = "qemu"
	GuestBuiltin Guest = "builtin"
)

// Config describes the site.
type Config struct {
	Name       string
	Dir        string    // state: machines, operations, consoles
	Datastores []string  // directories that hold disks; the first is the default
	Networks   []Network // empty: "production", and "isolated", which is
	Guest      Guest
	QEMU       string // path of qemu-system-x86_64; empty: from PATH
	Kernel     string // direct kernel boot with Initrd; empty: boot from the disk
	Initrd     string
	Append     string   // added to the kernel's command line
	Workload   []string // command of the built-in workload; disks and console are added
	// Tied ends machines with this process; else they outlive it.
	Tied bool
	FS   durable.FS // of Dir; default durable.OS()
	Log  *slog.Logger
	Now  func() time.Time
}

// Network is one that a machine's cards can be put on. Guests have no network here:
// it is what their manifests say.
type Network struct {
	Name     string
	Isolated bool // no machine of production is on it, so a test machine may be
}

// Site implements homeward.Site. Safe for concurrent use.
type Site struct {
	cfg  Config
	fsys durable.FS
	work sync.WaitGroup // running operations
	tie  *starter

	family, version string // of the operating system here

	mu       sync.Mutex // guards everything below and the files of Dir
	machines map[string]*machine
	running  map[string]homeward.Operation // by id, not yet finished
}

var _ homeward.Site = (*Site)(nil)

// Open reads the site's state. It starts nothing.
func Open(cfg Config) (*Site, error) {
	if cfg.Guest != GuestQEMU && cfg.Guest != GuestBuiltin {
		return nil, homeward.Errorf("open site", homeward.Invalid, "guest", `give "qemu" or "builtin"`, "%q", cfg.Guest)
	}
	if len(cfg.Datastores) == 0 {
		return nil, homeward.Errorf("open site", homeward.Invalid, "datastores", "give at least one directory", "none given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.FS == nil {
		cfg.FS = durable.OS()
	}
	if len(cfg.Networks) == 0 {
		cfg.Networks = []Network{{Name: "production"}, {Name: "isolated", Isolated: true}}
	}
	for i, n := range cfg.Networks {
		if n.Name == "" || slices.ContainsFunc(cfg.Networks[:i], func(o Network) bool { return o.Name == n.Name }) {
			return nil, homeward.Errorf("open site", homeward.Invalid, "networks", "give each network its own name", "%q", n.Name)
		}
	}
	s := &Site{cfg: cfg, fsys: cfg.FS, machines: map[string]*machine{}, running: map[string]homeward.Operation{}}
	s.family, s.version = member.System()
	for _, dir := range append([]string{s.dir("machines"), s.dir("operations"), s.dir("run")}, cfg.Datastores...) {
		if err := s.fsys.MkdirAll(dir, 0o700); err != nil {
			return nil, homeward.Errorf("open site", homeward.IO, dir, "make the directory writable", "%w", err)
		}
	}
	if cfg.Tied {
		s.tie = newStarter()
	}
	if err := s.load(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Site) dir(parts ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, parts...)...)
}

// Close waits for running operations. Machines go on, unless the site is tied:
// then the end of the starter's thread ends them.
func (s *Site) Close() {
	s.work.Wait()
	if s.tie != nil {
		s.tie.close()
	}
}

// Capabilities says what this site cannot.
func (s *Site) Capabilities(context.Context) (homeward.Capabilities, error) {
	c := homeward.Capabilities{
		Kind:      "local",
		BootsFrom: []string{"file", "nbd", "nbd+unix"},
		Firmware:  []string{"bios"},
		Lacks: map[string]string{
			"Snapshot": "raw files have no snapshots; the master target keeps points",
			"NICs":     "guests have no network here",
		},
	}
	if s.cfg.Guest == GuestQEMU {
		c.Hypervis = "QEMU, software emulation"
	} else {
		c.Hypervis = "built-in workload"
		c.BootsFrom = []string{"nbd", "nbd+unix"}
	}
	return c, nil
}

// Facts tells of datastores and of the hypervisor.
func (s *Site) Facts(context.Context) ([]homeward.Fact, error) {
	now := s.cfg.Now().UTC()
	var facts []homeward.Fact
	for _, dir := range s.cfg.Datastores {
		f := homeward.Fact{Name: "datastore.free-bytes", Subject: dir, At: now}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			f.Why = err.Error()
		} else {
			f.Known, f.Value = true, fmt.Sprint(st.Bavail*uint64(st.Bsize))
		}
		facts = append(facts, f)
	}
	f := homeward.Fact{Name: "hypervisor.path", At: now}
	if s.cfg.Guest == GuestQEMU {
		if path, err := exec.LookPath(s.qemu()); err != nil {
			f.Why = err.Error()
		} else {
			f.Known, f.Value = true, path
		}
	} else {
		f.Known, f.Value = true, "built-in"
	}
	return append(facts, f), nil
}

func (s *Site) qemu() string {
	if s.cfg.QEMU != "" {
		return s.cfg.QEMU
	}
	return "qemu-system-x86_64"
}
