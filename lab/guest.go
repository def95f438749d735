package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/site/local"
)

// Guest is what machines run as; the zero value of each field is its default.
type Guest struct {
	Kind  string        // "qemu", "builtin" or "auto": QEMU where it can run
	Dir   string        // where hack/guest.sh put kernel and initrd
	Gap   time.Duration // between two records; default 2 ms (qemu) or 5 ms (builtin)
	Churn int           // scratch blocks overwritten for each record; default 8, negative: none
}

// Complete fills in defaults, decides what "auto" is, and refuses what cannot run.
func (g *Guest) Complete() error {
	bad := func(fix, format string, args ...any) error {
		return homeward.Errorf("choose guest", homeward.Invalid, "--guest", fix, format, args...)
	}
	if g.Churn == 0 {
		g.Churn = 8
	}
	if g.Dir == "" {
		g.Dir = filepath.Join("cache", "guest")
	}
	missing := g.lacksForQEMU()
	switch g.Kind {
	case "", "auto":
		g.Kind = string(local.GuestQEMU)
		if missing != "" {
			g.Kind = string(local.GuestBuiltin)
		}
	case string(local.GuestBuiltin):
	case string(local.GuestQEMU):
		if missing != "" {
			return bad("run 'make guest', or use --guest builtin", "cannot run a QEMU guest: %s", missing)
		}
	default:
		return bad(`give "qemu", "builtin" or "auto"`, "%q", g.Kind)
	}
	if g.Gap == 0 {
		g.Gap = 5 * time.Millisecond
		if g.Kind == string(local.GuestQEMU) {
			g.Gap = 2 * time.Millisecond
		}
	}
	return nil
}

// lacksForQEMU names what is missing to run a real guest; empty: nothing.
func (g *Guest) lacksForQEMU() string {
	for _, tool := range []string{"qemu-system-x86_64", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	for _, f := range []string{g.Kernel(), g.Initrd()} {
		if _, err := os.Stat(f); err != nil {
			return err.Error()
		}
	}
	return ""
}

// Kernel is that of the QEMU guest.
func (g *Guest) Kernel() string { return filepath.Join(g.Dir, "vmlinuz") }

// Initrd is that of the QEMU guest.
func (g *Guest) Initrd() string { return filepath.Join(g.Dir, "initrd.gz") }

// Append is what its kernel is told.
func (g *Guest) Append() string {
	return fmt.Sprintf("gap_ms=%d churn=%d", g.Gap.Milliseconds(), g.Churn)
}

// Workload is the command of the built-in guest.
func (g *Guest) Workload(executable string) []string {
	return []string{executable, "workload", "--gap", g.Gap.String(), "--churn", fmt.Sprint(g.Churn)}
}

// Format makes the file system that the QEMU guest expects on its first disk; the
// built-in one needs none. All of it is written now: a guest that goes on making its
// file system in the background would seem to work all over its disk.
func (g *Guest) Format(ctx context.Context, image string) error {
	if g.Kind != string(local.GuestQEMU) {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image).CombinedOutput(); err != nil {
		return homeward.Errorf("install machine", homeward.IO, image, "see what mkfs.ext4 says", "%w: %s", err, out)
	}
	return nil
}
