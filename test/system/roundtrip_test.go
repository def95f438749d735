package system

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/test/stage"
)

// A real guest writes records with fsync, loses its site, runs at the other one
// and comes home; twice. Nothing announced before a point is ever missing, and its
// ext4 is clean in every copy.
func TestRealGuestThereAndBackTwice(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{Guest: "qemu"})
	for range 2 {
		r.write(100)
		r.replicated()
		r.must(r.Lose(r.ctx, r.Home))
		r.failOver(r.newestPoint)
		r.write(50)
		r.must(r.Item.Commit(r.ctx))
		r.must(r.Restore(r.ctx, r.Home))
		r.reprotect()
		r.cleanView("away is the source of this point")
		r.write(50)
		r.failBack(r.planned)
		r.must(r.Item.Commit(r.ctx))
		r.reprotect()
		r.cleanView("home is the source of this point")
	}
}

// cleanView copies the first disk of a served point and lets e2fsck judge it:
// first the journal is replayed, as a boot would, then nothing may be wrong.
func (r *rig) cleanView(what string) {
	r.t.Helper()
	req := homeward.ViewRequest{Item: r.Item.ID(), Name: "judge", Kind: homeward.ViewReadOnly}
	view, err := r.Item.Standby.Target.OpenView(r.ctx, req)
	r.must(err)
	image := filepath.Join(r.t.TempDir(), "view.raw")
	r.tool("nbdcopy", view.Disks[0].URI, image)
	_, err = r.Item.Standby.Target.CloseView(r.ctx, req)
	r.must(err)
	if out, err := exec.CommandContext(r.ctx, "e2fsck", "-E", "journal_only", "-p", image).CombinedOutput(); err != nil && exitOf(err) > 1 {
		r.t.Fatalf("%s: e2fsck cannot replay the journal: %v\n%s", what, err, out)
	}
	if out, err := exec.CommandContext(r.ctx, "e2fsck", "-f", "-n", image).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: the file system is not clean: %v\n%s", what, err, out)
	}
}

func exitOf(err error) int {
	if e, ok := err.(*exec.ExitError); ok { // as exec returns it
		return e.ExitCode()
	}
	return -1
}

// tool runs a program that must succeed, and returns what it printed.
func (r *rig) tool(name string, args ...string) string {
	r.t.Helper()
	return output(r.t, nil, name, args...)
}

// output runs a program that must succeed with an input, and returns what it printed.
func output(t *testing.T, in io.Reader, name string, args ...string) string {
	t.Helper()
	need(t, name)
	var errs strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin, cmd.Stderr, cmd.Env = in, &errs, append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}
