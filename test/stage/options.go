package stage

import (
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
)

// Options of a stage; the zero value of each field but Executable is its default.
type Options struct {
	Executable string        // the homeward binary, for the roles
	Dir        string        // where everything lives; empty: a temporary directory, removed at the end
	Guest      string        // "qemu", "builtin" or "auto"
	GuestDir   string        // where hack/guest.sh put kernel and initrd
	DiskSize   int64         // bytes of the machine's first disk; default 256 MiB
	LinkMbit   int           // of the link between the sites; 0: as fast as it goes
	LinkDelay  time.Duration // one way
	Gap        time.Duration // of the guest between records; see lab.Guest
	Churn      int           // scratch blocks the guest overwrites for each record; see lab.Guest

	guest lab.Guest
}

// complete fills in defaults and refuses what cannot be.
func (o *Options) complete() error {
	if o.DiskSize == 0 {
		o.DiskSize = 256 << 20
	}
	if o.DiskSize < 64<<20 || o.DiskSize%4096 != 0 {
		return homeward.Errorf("build stage", homeward.Invalid, "DiskSize", "give at least 64 MiB, a multiple of 4 KiB", "%d bytes", o.DiskSize)
	}
	o.guest = lab.Guest{Kind: o.Guest, Dir: o.GuestDir, Gap: o.Gap, Churn: o.Churn}
	return o.guest.Complete()
}
