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
	Workload   []string      // the built-in guest's command; empty: the one that keeps records
	Network    Network       // where the roles run; nil: in this process's network, with an emulated link between the sites

	guest lab.Guest
}

// Network is where sites' roles run and reach each other.
type Network interface {
	// Controller is an address ("host") of this process that both sites reach.
	Controller() string
	// Address is one ("host:port") for a role of a site to listen at; each is given once.
	Address(site string) string
	// Start calls start such that the process it starts is in the site's network.
	Start(site string, start func() error) error
}

// own is the network of this process.
type own struct{ *lab.Host }

func (own) Controller() string                       { return "127.0.0.1" }
func (o own) Address(string) string                  { return o.Host.Address() }
func (own) Start(_ string, start func() error) error { return start() }

// complete fills in defaults and refuses what cannot be.
func (o *Options) complete() error {
	if o.DiskSize == 0 {
		o.DiskSize = 256 << 20
	}
	if o.DiskSize < 64<<20 || o.DiskSize%4096 != 0 {
		return homeward.Errorf("build stage", homeward.Invalid, "DiskSize", "give at least 64 MiB, a multiple of 4 KiB", "%d bytes", o.DiskSize)
	}
	o.guest = lab.Guest{Kind: o.Guest, Dir: o.GuestDir, Gap: o.Gap, Churn: o.Churn}
	if err := o.guest.Complete(); err != nil {
		return err
	}
	if len(o.Workload) == 0 {
		o.Workload = o.guest.Workload(o.Executable)
	}
	return nil
}
