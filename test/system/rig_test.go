package system

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/site/local/records"
	"github.com/homeward-dr/homeward/test/stage"
)

// rig is a stage with one protected machine and an ear at its console.
type rig struct {
	*stage.Stage
	t       *testing.T
	ctx     context.Context
	console *lab.Console // where the machine runs now
}

// limit bounds one test; it is no assertion, only the end of a hang.
const limit = 3 * time.Minute

// policy cuts often, so that tests have points soon.
func policy() homeward.Policy { return homeward.Policy{MinInterval: 200 * time.Millisecond} }

// build makes both sites; the machine is installed and not yet protected.
func build(t *testing.T, o stage.Options) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	o.Executable, o.GuestDir = binary, filepath.Join(root, "cache", "guest")
	switch o.Guest {
	case "":
		o.Guest = "builtin"
	case "qemu":
		need(t, "qemu-system-x86_64", "mkfs.ext4", "e2fsck")
		for _, f := range []string{"vmlinuz", "initrd.gz"} {
			if _, err := os.Stat(filepath.Join(o.GuestDir, f)); err != nil {
				t.Fatalf("the test guest is missing: run hack/guest.sh (%v)", err)
			}
		}
	}
	if o.DiskSize == 0 {
		o.DiskSize = 64 << 20
	}
	st, err := stage.Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Stage: st, t: t, ctx: ctx}
	t.Cleanup(r.end)
	r.must(st.Install(ctx))
	st.Item = recovery.New(st.Machine(), policy(), st.Home.Side, st.Away.Side, slog.New(slog.DiscardHandler))
	return r
}

// protected is build, then Protect, with the guest running.
func protected(t *testing.T, o stage.Options) *rig {
	t.Helper()
	r := build(t, o)
	r.must(r.Item.Protect(r.ctx))
	r.hear(r.Home, 0)
	return r
}

func (r *rig) end() {
	if r.console != nil {
		r.console.Stop()
	}
	if r.t.Failed() {
		r.t.Log(r.Logs())
	}
	r.Close()
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// hear listens to the machine where it was booted now, and returns what it found
// on its disks. Nothing it found may be damaged.
func (r *rig) hear(p *stage.Place, from int64) records.Found {
	r.t.Helper()
	if r.console != nil {
		r.console.Stop()
	}
	var err error
	r.console, err = r.Hear(r.ctx, p, from)
	r.must(err)
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	found, err := r.console.Running(ctx)
	if err != nil {
		r.t.Fatalf("the machine does not come up at %s: %v; it says %q", p.Name, err, r.console.Other())
	}
	if found.Bad != 0 {
		r.t.Fatalf("at %s the machine found %d damaged records", p.Name, found.Bad)
	}
	return found
}

// write lets the machine announce n more records.
func (r *rig) write(n uint64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	if err := r.console.Until(ctx, r.console.Last()+n); err != nil {
		r.t.Fatalf("%v; it says %q", err, r.console.Other())
	}
}

// id names the item in requests.
func (r *rig) id() homeward.ItemRequest { return homeward.ItemRequest{Item: r.Item.ID()} }

// replicated waits until a point is applied that was cut after now.
func (r *rig) replicated() {
	r.t.Helper()
	now := time.Now()
	r.eventually("a newer point at the standby side", func() (bool, error) {
		rep, err := r.Item.Standby.Target.Report(r.ctx, r.id())
		return rep.NewestPoint.Mark.At.After(now), err
	})
}

// eventually asks until ok; errors that may pass are borne.
func (r *rig) eventually(what string, ok func() (bool, error)) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	// Processes on the other side of a socket tell nobody of their states.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ok()
		if done && err == nil {
			return
		}
		if err != nil && !homeward.Retryable(err) {
			r.t.Fatalf("waiting for %s: %v", what, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.t.Fatalf("waiting for %s: %v (%v)", what, ctx.Err(), err)
		}
	}
}

// at is the place of a side.
func (r *rig) at(s *recovery.Side) *stage.Place {
	if s == r.Home.Side {
		return r.Home
	}
	return r.Away
}

// newest is the newest point at the standby side.
func (r *rig) newest() homeward.Point {
	r.t.Helper()
	list, err := r.Item.Standby.Target.Points(r.ctx, r.id())
	r.must(err)
	if len(list.Points) == 0 {
		r.t.Fatal("no recovery point")
	}
	return list.Points[len(list.Points)-1]
}

// failOver boots the standby side at the newest point, the other one being lost,
// and checks what the machine finds there. call is FailOver, however often.
func (r *rig) failOver(call func(context.Context) error) {
	r.t.Helper()
	least := r.console.AckedBy(r.newest().Mark.At)
	to := r.at(r.Item.Standby)
	said := r.Said(r.ctx, to)
	r.must(call(r.ctx))
	if found := r.hear(to, said); found.Last < least {
		r.t.Fatalf("the point was cut after record %d was durable, the machine found %d", least, found.Last)
	}
}

// failBack moves the running machine to the standby side, where it must find every
// record it ever announced. call is FailOverPlanned, however often.
func (r *rig) failBack(call func(context.Context) error) {
	r.t.Helper()
	to := r.at(r.Item.Standby)
	said := r.Said(r.ctx, to)
	old := r.console
	r.console = nil
	defer old.Stop()
	r.must(call(r.ctx))
	if found := r.hear(to, said); found.Last < old.Last() {
		r.t.Fatalf("record %d was announced, the machine found %d after a planned move", old.Last(), found.Last)
	}
}

// newestPoint calls FailOver with the newest point.
func (r *rig) newestPoint(ctx context.Context) error {
	return r.Item.FailOver(ctx, homeward.Position{})
}

func (r *rig) planned(ctx context.Context) error {
	return r.Item.FailOverPlanned(ctx, homeward.Position{})
}

// reprotect makes the standby side follow again and proves that it does.
func (r *rig) reprotect() recovery.Reversal {
	r.t.Helper()
	took, err := r.Item.Reprotect(r.ctx)
	r.must(err)
	r.prove()
	return took
}

// prove demands equal digests of both sides.
func (r *rig) prove() {
	r.t.Helper()
	proof, err := r.Item.Prove(r.ctx)
	r.must(err)
	if !proof.Equal {
		r.t.Fatalf("the sides differ: %+v", proof.Disks)
	}
}

// powerOff ends the machine at a place in order, and waits until its agent knows.
func (r *rig) powerOff(p *stage.Place) {
	r.t.Helper()
	ref := r.Item.Refs[p.Name]
	_, err := p.Site.PowerOff(r.ctx, fmt.Sprintf("test-off-%d", time.Now().UnixNano()), ref, homeward.Stop{Graceful: true, Timeout: 20 * time.Second})
	r.must(err)
	r.eventually("the machine to end", func() (bool, error) {
		m, err := p.Site.Machine(r.ctx, ref)
		return m.Power == homeward.PowerOff, err
	})
	r.eventually("its connections to end", func() (bool, error) {
		rep, err := p.Side.Agent.Report(r.ctx, r.id())
		return rep.Clients == 0, err
	})
}
