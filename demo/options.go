package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/site/local"
)

// Options of a run; the zero value of each field but Executable is its default.
type Options struct {
	Executable string        // the homeward binary, for the roles
	Dir        string        // where everything lives; empty: a temporary directory, removed at the end
	Guest      string        // "qemu", "builtin" or "auto"
	GuestDir   string        // where hack/guest.sh put kernel and initrd
	DiskSize   int64         // bytes of the machine's first disk; default 256 MiB
	LinkMbit   int           // of the link between the sites; 0: as fast as it goes
	LinkDelay  time.Duration // one way
	Point      string        // "latest", or how long before the loss: "-30s"
	Keep       bool          // leave it running at the end, until interrupted
	Gap        time.Duration // of the guest between records; default 2 ms (qemu) or 5 ms (builtin)
	Churn      int           // scratch blocks the guest overwrites for each record; default 8, negative: none
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
	if o.Churn == 0 {
		o.Churn = 8
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
	if o.GuestDir == "" {
		o.GuestDir = filepath.Join("cache", "guest")
	}
	if o.Guest == "" {
		o.Guest = "auto"
	}
	missing := o.lacksForQEMU()
	switch o.Guest {
	case "auto":
		o.Guest = string(local.GuestQEMU)
		if missing != "" {
			o.Guest = string(local.GuestBuiltin)
		}
	case string(local.GuestBuiltin):
	case string(local.GuestQEMU):
		if missing != "" {
			return bad("--guest", "run 'make guest', or use --guest builtin", "cannot run a QEMU guest: %s", missing)
		}
	default:
		return bad("--guest", `give "qemu", "builtin" or "auto"`, "%q", o.Guest)
	}
	if o.Gap == 0 {
		o.Gap = 5 * time.Millisecond
		if o.Guest == string(local.GuestQEMU) {
			o.Gap = 2 * time.Millisecond
		}
	}
	return nil
}

// lacksForQEMU names what is missing to run a real guest; empty: nothing.
func (o *Options) lacksForQEMU() string {
	for _, tool := range []string{"qemu-system-x86_64", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	for _, f := range []string{o.kernel(), o.initrd()} {
		if _, err := os.Stat(f); err != nil {
			return err.Error()
		}
	}
	return ""
}

func (o *Options) kernel() string { return filepath.Join(o.GuestDir, "vmlinuz") }
func (o *Options) initrd() string { return filepath.Join(o.GuestDir, "initrd.gz") }

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

// ParseSize reads "256MiB", "1GiB" or a number of bytes.
func ParseSize(s string) (int64, error) {
	var n int64
	var unit string
	if _, err := fmt.Sscanf(s, "%d%s", &n, &unit); err != nil && unit == "" && n == 0 {
		return 0, homeward.Errorf("read size", homeward.Invalid, s, "give a number with KiB, MiB or GiB", "not a size")
	}
	shift, known := map[string]uint{"": 0, "B": 0, "KiB": 10, "K": 10, "MiB": 20, "M": 20, "GiB": 30, "G": 30, "TiB": 40, "T": 40}[unit]
	if !known || n < 0 || n > 1<<62>>shift {
		return 0, homeward.Errorf("read size", homeward.Invalid, s, "give a number with KiB, MiB or GiB", "not a size")
	}
	return n << shift, nil
}
