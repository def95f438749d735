package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/test/stage"
)

// small mounts a small file system at dir; it goes with the test.
func (r *rig) small(dir string, bytes int64) {
	r.t.Helper()
	r.must(os.MkdirAll(dir, 0o700))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		r.t.Fatalf("mount a small file system: %v (run as root)", err)
	}
	r.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			r.t.Error(err)
		}
	})
}

// smallHome gives a role, which has nothing yet, a small file system to live on.
func (r *rig) smallHome(p *lab.Program, sub string, bytes int64) (dir string) {
	r.t.Helper()
	p.Kill()
	dir = filepath.Join(p.Dir(), sub)
	r.small(dir, bytes)
	r.must(r.Restart(r.ctx, p))
	return dir
}

// fill leaves no room in the file system of dir; the answer makes room again.
func (r *rig) fill(dir string) (free func()) {
	r.t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	r.must(err)
	chunk := make([]byte, 1<<20)
	for size := len(chunk); size >= 512; {
		if _, err = f.Write(chunk[:size]); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		r.t.Fatalf("fill %s: %v", dir, err)
	}
	r.must(f.Close())
	return func() { r.must(os.Remove(path)) }
}

// said is what all roles complain about now.
func (r *rig) said() (all []string) {
	r.t.Helper()
	if rep, err := r.Home.Side.Agent.Report(r.ctx, r.id()); err != nil {
		all = append(all, err.Error())
	} else {
		for _, a := range rep.Alarms {
			all = append(all, a.Code+": "+a.Text+" ("+a.Remedy+")")
		}
	}
	if rep, err := r.Home.Side.Process.Report(r.ctx, r.id()); err != nil {
		all = append(all, err.Error())
	} else if rep.TargetError != "" {
		all = append(all, rep.TargetError)
	}
	if rep, err := r.Away.Side.Target.Report(r.ctx, r.id()); err != nil {
		all = append(all, err.Error())
	} else {
		if rep.Fault != "" {
			all = append(all, rep.Fault+" ("+rep.Remedy+")")
		}
		for _, a := range rep.Alarms {
			all = append(all, a.Code+": "+a.Text+" ("+a.Remedy+")")
		}
	}
	return all
}

// When a file system that a role lives on is full, the guest runs on, somebody
// says so, and with room again everything goes on by itself and nothing is lost.
func TestFullFileSystems(t *testing.T) {
	for _, c := range []struct {
		name  string
		place func(r *rig) string // the directory that will be full
		quiet bool                // nothing needs to be said: it is not needed yet, or made up for
		mend  func(r *rig)        // what the error says is to be done when there is room again; nil: nothing
	}{
		{name: "agent's maps", place: func(r *rig) string { return r.smallHome(r.Home.Agent, "", 24<<20) }, quiet: true},
		{name: "agent's spill", place: func(r *rig) string { return r.smallHome(r.Home.Agent, "spill", 4<<20) }, quiet: true},
		{name: "spool", place: func(r *rig) string { return r.smallHome(r.Home.Process, "", 24<<20) }, quiet: true},
		{name: "retention", place: func(r *rig) string { return r.smallHome(r.Away.Target, "", 96<<20) }},
		{name: "replica's disks", place: func(r *rig) string {
			dir := filepath.Dir(r.Away.Side.Disks[0][len("file:"):])
			r.small(dir, 48<<20)
			return dir
		}, mend: func(r *rig) {
			r.Away.Target.Kill()
			r.must(r.Restart(r.ctx, r.Away.Target))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := build(t, stage.Options{})
			dir := c.place(r)
			r.Item.Policy.CacheBytes = 1 << 20 // the spill is needed soon
			r.must(r.Item.Protect(r.ctx))
			r.hear(r.Home, 0)
			r.write(20)
			free := r.fill(dir)
			r.write(150)
			if !c.quiet {
				r.eventually("somebody to say that it is full", func() (bool, error) { return len(r.said()) > 0, nil })
			}
			for _, s := range r.said() {
				t.Log(s)
			}
			r.write(50)
			free()
			if c.mend != nil {
				c.mend(r)
			}
			r.replicated()
			r.prove()
		})
	}
}

// A guest whose own disk is full is told so; the agent lives, and what was
// announced before stays whole on both sides.
func TestFullDiskOfTheGuestItself(t *testing.T) {
	t.Parallel()
	r := build(t, stage.Options{})
	dir := filepath.Dir(r.Home.Side.Disks[0][len("file:"):])
	r.small(dir, 32<<20)
	for i, d := range r.Machine().Disks {
		f, err := os.Create(r.Home.Side.Disks[i][len("file:"):])
		r.must(err)
		r.must(f.Truncate(d.Size))
		r.must(f.Close())
	}
	r.must(r.Item.Protect(r.ctx))
	r.hear(r.Home, 0)
	r.write(20)
	free := r.fill(dir)
	r.eventually("the machine to end", func() (bool, error) {
		m, err := r.Home.Site.Machine(r.ctx, r.Item.Refs["home"])
		return m.Power == homeward.PowerOff, err
	})
	free()
	least := r.console.Last()
	said := r.Said(r.ctx, r.Home)
	_, err := r.Home.Site.PowerOn(r.ctx, "again", r.Item.Refs["home"])
	r.must(err)
	if found := r.hear(r.Home, said); found.Last < least {
		t.Errorf("record %d was announced, %d found", least, found.Last)
	}
	r.write(20)
	r.replicated()
	r.prove()
}
