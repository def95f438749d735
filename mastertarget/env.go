package mastertarget

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/mastertarget/history"
	"github.com/homeward-dr/homeward/nbd"
)

// Exporter serves disks over NBD; *nbd.Server is one.
type Exporter interface {
	Add(e nbd.Export) error
	Withdraw(ctx context.Context, name string, immediate bool) error
}

// Config is what a Target needs. Dir, Openers, NBD and URI must be given.
type Config struct {
	Dir     string                     // what the target keeps; one Target at a time
	Name    string                     // of the target, on volumes it shares; default "master-target"
	FS      durable.FS                 // default: the operating system's
	Openers block.Openers              // how references of replica disks are opened
	NBD     Exporter                   // serves views
	URI     func(export string) string // where an export of NBD is reached
	// ApplyBytes bounds the deltas held in memory, of all items together; default
	// 128 MiB, at least homeward.MaxDelta.
	ApplyBytes int64
	// Patience is how long a delta waits, its body unread, for the one it follows;
	// default 10 s.
	Patience time.Duration
	// Retention are volumes on which items may keep their points (clean absolute
	// paths); the first is for those whose Prepare names none. Empty: that is Dir.
	Retention []string
	// Mounted reports whether a file system is mounted at path: then a Prepare may
	// name it though it is not in Retention. Default: asks the kernel.
	Mounted func(path string) bool
	// Free tells the free bytes of a volume; default: its file system's.
	Free func(volume string) (int64, error)
	// ThinEvery is how often retention is enforced; default 30 s; negative: only
	// when space is short and when Thin is called.
	ThinEvery time.Duration
	// Boot names this boot of the kernel, whose cache outlives the process; default:
	// its boot_id. Empty where there is none: then a machine on a failed-over view
	// loses with the process what it has not flushed.
	Boot string
	Log  *slog.Logger // gets what no caller is there to be told; default: nobody
	Now  func() time.Time
}

// Validate names the first field that is missing or wrong.
func (c Config) Validate() error {
	missing := func(field, fix string) error {
		return homeward.Errorf("open master target", homeward.Invalid, field, fix, "missing")
	}
	switch {
	case c.Dir == "":
		return missing("Dir", "name the directory of the retention volume")
	case slices.ContainsFunc(c.Retention, func(path string) bool { return !filepath.IsAbs(path) || filepath.Clean(path) != path }):
		return homeward.Errorf("open master target", homeward.Invalid, "Retention", "give clean absolute paths", "%q", c.Retention)
	case len(c.Openers) == 0:
		return missing("Openers", "give at least one opener of disks")
	case c.NBD == nil:
		return missing("NBD", "give a server for views")
	case c.URI == nil:
		return missing("URI", "say where exports are reached")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.FS == nil {
		c.FS = durable.OS()
	}
	if c.ApplyBytes == 0 {
		c.ApplyBytes = 128 << 20
	}
	c.ApplyBytes = max(c.ApplyBytes, homeward.MaxDelta)
	if c.Free == nil {
		c.Free = freeBytes
	}
	if c.Name == "" {
		c.Name = defaultTarget
	}
	if c.Mounted == nil {
		c.Mounted = mounted
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	if c.Boot == "" {
		c.Boot = bootID()
	}
	if c.ThinEvery == 0 {
		c.ThinEvery = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// env is what all items of a target share.
type env struct {
	Config
	files   *history.Files
	slabs   slabs
	work    *background
	trees   *treeCache
	volumes *volumes
}

func (e *env) now() time.Time { return e.Now().UTC() }
