package system

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/test/stage"
)

// A link that hangs, and one that is cut, cost the guest nothing: it writes on,
// and what it wrote arrives when the link is back.
func TestLinkHangsAndIsCut(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{LinkDelay: 10 * time.Millisecond})
	r.write(50)
	r.replicated()
	for name, fail := range map[string]func(){"hangs": r.Away.In.Hang, "is cut": r.Away.In.Cut} {
		began := time.Now()
		fail()
		r.write(300)
		r.Away.In.Restore()
		r.replicated()
		t.Logf("link %s: longest pause of the guest %v", name, r.console.Pause(began).Round(time.Millisecond))
		r.prove()
	}
}

// A slow link: points become fewer, the guest does not become slower, and the
// saved copies stay within their budget.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	r := build(t, stage.Options{LinkMbit: 20, LinkDelay: 20 * time.Millisecond, Churn: 32})
	r.Item.Policy.CacheBytes, r.Item.Policy.SpillBytes = 1<<20, 8<<20
	r.must(r.Item.Protect(r.ctx))
	r.hear(r.Home, 0)
	r.write(400)
	rep, err := r.Home.Side.Agent.Report(r.ctx, r.id())
	r.must(err)
	t.Logf("%d demotions, p99 hold %v, dirty %+v", rep.Demotions, rep.HoldP99, rep.Disks)
	point := r.newest()
	least := r.console.AckedBy(point.Mark.At)
	r.must(r.Lose(r.ctx, r.Home))
	r.failOver(r.newestPoint)
	t.Logf("%d records announced by the newest point", least)
}

// The master target stops answering (SIGSTOP) for a while: nobody else hangs.
func TestStoppedMasterTarget(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{})
	r.write(20)
	r.replicated()
	stop(r, r.Away.Target)
	r.write(200)
	ctx, cancel := context.WithTimeout(r.ctx, time.Second)
	_, err := r.Away.Side.Target.Report(ctx, r.id())
	cancel()
	if homeward.KindOf(err) != homeward.Timeout {
		t.Errorf("a stopped master target: %v", err)
	}
	if _, err := r.Home.Side.Agent.Report(r.ctx, r.id()); err != nil {
		t.Errorf("the agent hangs with it: %v", err)
	}
	cont(r, r.Away.Target)
	r.replicated()
	r.prove()
}

func stop(r *rig, p *lab.Program) { r.must(syscall.Kill(p.PID(), syscall.SIGSTOP)) }
func cont(r *rig, p *lab.Program) { r.must(syscall.Kill(p.PID(), syscall.SIGCONT)) }
