package demo

import (
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
)

// Options of a run; the zero value of each field but Executable is its default.
type Options struct {
	Executable string        // the homeward binary, for the roles
	Dir        string        // where everything lives; empty: a temporary directory, removed at the end
	Guest      lab.Guest     // what the machines run as
	DiskSize   int64         // bytes of the machine's first disk; default 256 MiB
	LinkMbit   int           // of the link between the sites; 0: as fast as it goes
	LinkDelay  time.Duration // one way
	Point      string        // "latest", or how long before the loss: "-30s"
	Keep       bool          // leave it running at the end, until interrupted
}

// complete fills in defaults and refuses what cannot be.
func (o *Options) complete() error {
	bad := func(field, fix, format string, args ...any) error {
		return homeward.Errorf("start demo", homeward.Invalid, field, fix, format, args...)
	}
	if o.DiskSize == 0 {
		o.DiskSize = 256 << 20
	}
	if o.DiskSize < 64<<20 || o.DiskSize%4096 != 0 {
		return bad("--disk-size", "give at least 64MiB, a multiple of 4 KiB", "%d bytes", o.DiskSize)
	}
	if o.LinkMbit < 0 || o.LinkMbit > 100_000 {
		return bad("--link-mbit", "give 1 to 100000, or 0 for no limit", "%d", o.LinkMbit)
	}
	if o.LinkDelay < 0 || o.LinkDelay > 5*time.Second {
		return bad("--link-delay-ms", "give 0 to 5000", "%v", o.LinkDelay)
	}
	if _, err := o.age(); err != nil {
		return err
	}
	return o.Guest.Complete()
}

// age is how long before the loss the point to recover should lie; 0: the latest.
func (o *Options) age() (time.Duration, error) {
	if o.Point == "" || o.Point == "latest" {
		return 0, nil
	}
	d, err := time.ParseDuration(strings.TrimPrefix(o.Point, "-"))
	if err != nil || !strings.HasPrefix(o.Point, "-") || d <= 0 || d > 10*time.Minute {
		return 0, homeward.Errorf("start demo", homeward.Invalid, "--point", `give "latest" or an age up to ten minutes, such as -30s`, "%q", o.Point)
	}
	return d, nil
}
