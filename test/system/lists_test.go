package system

import (
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/stage"
)

// A copy runs from a point beside the machine and is gone without a trace; then the
// machine's protection ends without an outage, and the machine boots from its own disks.
func TestTestFailoverAndDisable(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{Guest: "qemu"})
	r.write(30)
	r.replicated()
	report, err := r.Item.TestFailOver(r.ctx, recovery.TestRequest{Network: "isolated"})
	r.must(err)
	ear := lab.Listen(r.ctx, report.Machine.Console, 0)
	found, err := ear.Running(r.ctx)
	ear.Stop()
	if err != nil || found.Bad != 0 || found.Last < 30 {
		t.Fatalf("the copy found %+v: %v; it says %q", found, err, ear.Other())
	}
	r.write(30)
	r.replicated()
	r.must(r.Item.CleanUpTest(r.ctx))
	if _, err := r.Away.Site.Machine(r.ctx, report.Machine.Ref); homeward.KindOf(err) != homeward.NotFound {
		t.Fatalf("the test machine is still there: %v", err)
	}
	r.prove()

	left, err := r.Item.Disable(r.ctx, false)
	r.must(err)
	if len(left) != 1 || !r.Item.Attached {
		t.Fatalf("left behind: %+v", left)
	}
	r.write(30)
	ref := r.Item.Refs[r.Home.Name]
	r.powerOff(r.Home)
	last := r.console.Last()
	left, err = r.Item.Disable(r.ctx, false)
	r.must(err)
	if len(left) != 0 {
		t.Fatalf("left behind: %+v", left)
	}
	from := r.Said(r.ctx, r.Home)
	_, err = r.Home.Site.PowerOn(r.ctx, "on by hand", ref)
	r.must(err)
	if found = r.hear(r.Home, from); found.Last < last {
		t.Fatalf("on its own disks the machine found %+v, it had announced %d", found, last)
	}
	r.must(r.Item.Protect(r.ctx)) // it is shut down, and gets the agent's disks again
	r.replicated()
	r.prove()
}
