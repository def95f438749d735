// Package peer finds the programs that Homeward is measured beside, and installs
// them, by name, from Debian where that is asked for.
package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/homeward-dr/homeward/bench/measure"
)

// Peer is a program as it was found.
type Peer struct {
	Path    string // empty: it is missing
	Version string // of its Debian package; empty: it came from elsewhere
	Missing string // why
}

// String is the version, or "missing: why".
func (p Peer) String() string {
	switch {
	case p.Missing != "":
		return "missing: " + p.Missing
	case p.Version == "":
		return p.Path + ", not of a Debian package"
	default:
		return p.Version
	}
}

// Find looks for a program; with install, one that is missing is installed first.
func Find(ctx context.Context, want measure.Requirement, install bool) Peer {
	path, err := look(want.Program)
	if err != nil && install {
		if err := fetch(ctx, want.Package); err != nil {
			return Peer{Missing: err.Error()}
		}
		path, err = look(want.Program)
	}
	if err != nil {
		return Peer{Missing: "not installed; it is in Debian's package " + want.Package + " (-install fetches it)"}
	}
	return Peer{Path: path, Version: version(ctx, want.Package)}
}

// look also searches where root's programs are: not every PATH names it.
func look(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, e := exec.LookPath(filepath.Join(dir, program)); e == nil {
			return path, nil
		}
	}
	return "", err
}

func version(ctx context.Context, pkg string) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f=${Version}", pkg).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func fetch(ctx context.Context, pkg string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("installing %s needs root", pkg)
	}
	if apt(ctx, "install", "-y", "-qq", "--no-install-recommends", pkg) == nil {
		return nil
	}
	if err := apt(ctx, "update", "-qq"); err != nil { // the lists may be older than the archive
		return err
	}
	return apt(ctx, "install", "-y", "-qq", "--no-install-recommends", pkg)
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	last := strings.TrimSpace(string(out))
	last = last[strings.LastIndexByte(last, '\n')+1:]
	return fmt.Errorf("apt-get %s: %w: %s", args[0], err, last)
}
