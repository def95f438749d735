package capture

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// Capture is what every driver can do with the disks of one machine. Machine
// sees each write itself; drivers that are told about writes by the platform
// (QEMU bitmaps, eBPF, changed-block lists) are siblings with the same contract.
type Capture interface {
	// Cut freezes the set of changed blocks at one instant.
	Cut(ctx context.Context, o CutOptions) (*Cut, error)
	// Mark adds blocks to the set, durably.
	Mark(disk int, m *block.Map) error
	// Dirty is every block not known to be applied at the other copy, suspect ones apart.
	Dirty(disk int) *block.Map
	// Suspect is every block that may differ without being in Dirty.
	Suspect(disk int) *block.Map
	// Baseline remembers the disks as they are, before first power-on.
	Baseline(ctx context.Context) (Baseline, error)
	// ChangedSince tells what differs from then.
	ChangedSince(ctx context.Context, id homeward.ID) (Changes, error)
}

var _ Capture = (*Machine)(nil)

// What callers tell apart with errors.Is. Each travels inside a homeward.Error.
var (
	// ErrCutOpen: one cut at a time is frozen, and one is.
	ErrCutOpen = errors.New("another cut is still frozen")
	// ErrHeld: the writes are held for a group; cut with its token.
	ErrHeld = errors.New("the writes are held under a token")
	// ErrNoHold: the hold expired, was released or was never taken.
	ErrNoHold = errors.New("no hold is in force under this token")
	// ErrDemoted: the cut was given up; its blocks are dirty again.
	ErrDemoted = errors.New("the cut was given up")
	// ErrReleased: the cut is past the state in which this can be done with it.
	ErrReleased = errors.New("the cut is released already")
	// ErrHandedOver: this side does not write any more (I-11).
	ErrHandedOver = errors.New("the machine was handed over: this side does not write any more")
	// ErrClosed: the engine is closed.
	ErrClosed = errors.New("the capture is closed")
)

// Config says what to capture and where to keep what must not be lost.
type Config struct {
	Disks []block.Disk // in the machine's order; closing them stays the caller's
	// Dir is for what survives a power loss: checkpoints, activity logs, the stamp.
	// One engine at a time; it is locked.
	Dir string
	// LiveDir is on tmpfs, and the machine's own: /dev/shm/homeward/<item>.
	LiveDir string
	FS      durable.FS // of Dir and SpillDir; default durable.OS()
	// CacheBytes bounds saved copies in memory (default 32 MiB), SpillBytes those on
	// disk (default 1 GiB; negative: none).
	CacheBytes, SpillBytes int64
	SpillDir               string        // default Dir
	HoldDeadline           time.Duration // how long a cut waits for writes in flight; default 5 ms
	Log                    *slog.Logger  // default: discard
	Now                    func() time.Time
	// BootID tells one boot of the host from another; default: the kernel's.
	BootID string

	hotExtents int // most extents in the activity log; tests evict early
}

func (c Config) withDefaults() (Config, error) {
	bad := func(field, fix, format string, args ...any) (Config, error) {
		return c, homeward.Errorf("open capture", homeward.Invalid, field, fix, format, args...)
	}
	if len(c.Disks) == 0 || len(c.Disks) > homeward.MaxDisks {
		return bad("disks", "give 1 to 60 disks", "%d disks", len(c.Disks))
	}
	if c.Dir == "" || c.LiveDir == "" || filepath.Clean(c.Dir) == filepath.Clean(c.LiveDir) {
		return bad("dir, live dir", "give two directories", "they are %q and %q", c.Dir, c.LiveDir)
	}
	if c.FS == nil {
		c.FS = durable.OS()
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 32 << 20
	}
	if c.CacheBytes < block.Size {
		return bad("cache bytes", "give at least 4096", "%d", c.CacheBytes)
	}
	if c.SpillBytes == 0 {
		c.SpillBytes = 1 << 30
	}
	if c.hotExtents == 0 {
		c.hotExtents = maxHot
	}
	if c.SpillDir == "" {
		c.SpillDir = c.Dir
	}
	if c.HoldDeadline <= 0 {
		c.HoldDeadline = 5 * time.Millisecond
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.BootID == "" {
		id, err := bootID()
		if err != nil {
			return c, err
		}
		c.BootID = id
	}
	return c, nil
}

// CutOptions are those of Machine.Cut.
type CutOptions struct {
	// Whole keeps the whole content of all disks as of the cut, not only that of
	// changed blocks, as long as the copies fit the budget.
	Whole bool
}

// StartKind says what Open found of an earlier run.
type StartKind string

// The kinds, from best to worst. Of several disks the worst counts.
const (
	StartFresh      StartKind = "fresh"       // nothing: this machine was never captured here
	StartClean      StartKind = "clean"       // closed properly, and nobody wrote since as far as we can tell
	StartHandedOver StartKind = "handed-over" // by Handover: writes are refused
	StartSurvived   StartKind = "survived"    // killed, but the live map is there: exact
	StartReboot     StartKind = "reboot"      // live map gone: checkpoint, and hot extents suspect
	StartUnreadable StartKind = "unreadable"  // a file is missing or damaged, or a disk is not the one it was: all suspect
)

var startRank = map[StartKind]int{StartFresh: 0, StartClean: 1, StartHandedOver: 2, StartSurvived: 3, StartReboot: 4, StartUnreadable: 5}

// Start is what Open found.
type Start struct {
	Kind    StartKind
	Reasons []string // why blocks are suspect, or what else an operator should know; "disk 0: …"
}

// Stats are figures as of now.
type Stats struct {
	Demotions  int64         // cuts given up since Open
	HoldP99    time.Duration // of the last 1,000 cuts
	CacheBytes int64         // saved copies in memory
	SpillBytes int64         // saved copies on disk
	// Unprotected has a sentence for each disk whose map would not survive a power
	// loss: it is exact now, but will be wholly suspect after one.
	Unprotected []string
	// FlushFailed has a sentence for each disk that failed a flush: its blocks stay
	// dirty until it is opened anew.
	FlushFailed []string
	// SpillFailed tells why copies are not spilled any more; empty: they are.
	SpillFailed string
	// Resized has a sentence for each disk whose medium changed size; the size as of
	// Open stays in force until it is opened anew.
	Resized []string
}
