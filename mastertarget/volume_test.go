package mastertarget_test

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget"
)

// absentFS hides what is below rig.gone.
type absentFS struct {
	durable.FS
	rig *rig
}

func (a absentFS) hides(name string) error {
	if a.rig.gone != "" && strings.HasPrefix(name, a.rig.gone+"/") {
		return homeward.Errorf("look", homeward.NotFound, name, "", "%w", fs.ErrNotExist)
	}
	return nil
}

func (a absentFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if err := a.hides(name); err != nil {
		return nil, err
	}
	return a.FS.OpenFile(name, flag, perm)
}

func (a absentFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := a.hides(dir + "/"); err != nil {
		return nil, err
	}
	return a.FS.ReadDir(dir)
}

func (a absentFS) Stat(name string) (fs.FileInfo, error) {
	if err := a.hides(name); err != nil {
		return nil, err
	}
	return a.FS.Stat(name)
}

// newVolumeRig is a target that was given retention volumes.
func newVolumeRig(t testing.TB, volumes ...string) *rig {
	t.Helper()
	r := newRig(t)
	r.vols = volumes
	for _, v := range volumes {
		r.mount(v)
	}
	r.open()
	return r
}

func (r *rig) mount(path string) {
	r.t.Helper()
	if err := r.fs.MkdirAll(path, 0o700); err != nil {
		r.t.Fatal(err)
	}
}

// prepareOn is prepare with a volume.
func (r *rig) prepareOn(volume string) error {
	r.at = homeward.Position{}.Base(r.gen)
	req := r.request()
	req.Retention = volume
	_, err := r.target.Prepare(ctx, req)
	r.model[r.at] = r.source.clone()
	return err
}

func (r *rig) reopen() {
	r.t.Helper()
	if err := r.target.Close(ctx); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

func (r *rig) holds(path string) bool {
	_, err := r.fs.Stat(path)
	return err == nil
}

func TestVolume_ItemLivesThere(t *testing.T) {
	for wanted, on := range map[string]string{"": "/mnt/a", "/mnt/a": "/mnt/a", "/mnt/b": "/mnt/b", "/vol": "/vol"} {
		r := newVolumeRig(t, "/mnt/a", "/mnt/b")
		if err := r.prepareOn(wanted); err != nil {
			t.Fatal(err)
		}
		r.steps(3)
		if got := r.report().Retention; got != on {
			t.Errorf("wanted %q: on %q", wanted, got)
		}
		dir := on + "/homeward-retention/master-target/items/web01"
		if on == "/vol" {
			dir = "/vol/web01"
		}
		if !r.holds(dir+"/item") || !r.holds("/vol/web01/fence") {
			t.Errorf("wanted %q: its files are not in %s", wanted, dir)
		}
		r.reopen()
		if err := r.prepareOn(""); err != nil { // the same leg again, wherever it is
			t.Error(err)
		}
		r.resume()
		r.steps(2)
		r.check()
	}
}

func TestVolume_DoesNotMove(t *testing.T) {
	r := newVolumeRig(t, "/mnt/a", "/mnt/b")
	if err := r.prepareOn("/mnt/b"); err != nil {
		t.Fatal(err)
	}
	r.steps(2)
	err := r.prepareOn("/mnt/a")
	if kindOf(err) != homeward.Conflict || !strings.Contains(err.Error(), "/mnt/b") || !strings.Contains(err.Error(), "do not move") {
		t.Errorf("another volume: %v", err)
	}
	// Forgotten, it may be anywhere; its generation stays in force.
	old := r.gen
	r.gen = r.gen.Next()
	must(r.target.Forget(ctx, homeward.GenerationRequest{Item: id, Generation: r.gen}))(t)
	r.gen = r.gen.Next()
	if err := r.prepareOn("/mnt/a"); err != nil {
		t.Fatal(err)
	}
	r.steps(2)
	r.check()
	if rep := r.report(); rep.Retention != "/mnt/a" {
		t.Errorf("on %s", rep.Retention)
	}
	_, err = r.target.SetGeneration(ctx, homeward.GenerationRequest{Item: id, Generation: old})
	if kindOf(err) != homeward.Fenced {
		t.Errorf("an older generation: %v", err)
	}
}

func TestVolume_BadOnes(t *testing.T) {
	r := newVolumeRig(t, "/mnt/a", "/mnt/none")
	if err := r.fs.Remove("/mnt/none"); err != nil {
		t.Fatal(err)
	}
	r.mount("/data")
	for path, kind := range map[string]homeward.Kind{
		"mnt/a": homeward.Invalid, "/mnt/a/": homeward.Invalid, "/data": homeward.Invalid, "/mnt/none": homeward.Unavailable, "/nowhere": homeward.Unavailable,
	} {
		err := r.prepareOn(path)
		if kindOf(err) != kind || homeward.RemedyOf(err) == "" || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := r.prepareOn("/mnt/a"); err != nil { // the refusals have left nothing behind
		t.Error(err)
	}
	c := r.lockedConfig()
	c.Dir, c.Retention = "/other", []string{"relative"}
	if _, err := mastertarget.Open(ctx, c); kindOf(err) != homeward.Invalid {
		t.Errorf("a relative path: %v", err)
	}
}

// What is mounted may be chosen without being given; the kernel is asked.
func TestVolume_MountedOne(t *testing.T) {
	r := newRig(t)
	r.mount("/data")
	r.nbd = newExporter()
	c := r.config()
	c.Mounted = func(path string) bool { return path == "/data" }
	var err error
	if r.target, err = mastertarget.Open(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := r.prepareOn("/data"); err != nil {
		t.Fatal(err)
	}
	r.steps(2)
	r.reopen() // and it is remembered
	r.resume()
	r.steps(2)
	r.check()
}

// A volume that is not mounted is a fault of its items that names it; fencing goes
// on, other items do too, and the items are back when it is.
func TestVolume_NotMounted(t *testing.T) {
	r := newVolumeRig(t, "/mnt/a")
	if err := r.prepareOn("/mnt/a"); err != nil {
		t.Fatal(err)
	}
	r.steps(3)
	if err := r.target.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r.gone = "/mnt/a"
	r.open()
	if ids := r.target.Items(); len(ids) != 1 || ids[0] != id {
		t.Errorf("items %v", ids)
	}
	rep := r.report()
	if !strings.Contains(rep.Fault, "/mnt/a") || !strings.Contains(rep.Fault, "not mounted") || rep.Remedy == "" || rep.Retention != "/mnt/a" || rep.Generation != r.gen {
		t.Errorf("report %+v", rep)
	}
	s := must(r.target.Standing(ctx, homeward.StandingRequest{Item: id}))(t)
	if s.Known || !strings.Contains(s.Fault, "/mnt/a") || s.Generation != r.gen {
		t.Errorf("standing %+v", s)
	}
	body, to := r.cut(homeward.MarkCrash, r.scribble())
	_, put := r.target.Put(ctx, id, strings.NewReader(string(body)))
	_, points := r.target.Points(ctx, homeward.ItemRequest{Item: id})
	_, forget := r.target.Forget(ctx, homeward.GenerationRequest{Item: id, Generation: r.gen})
	for what, err := range map[string]error{
		"put": put, "points": points, "forget": forget, "prepare": r.prepareOn(""), "prepare elsewhere": r.prepareOn("/vol"),
		"may send": r.target.MaySend(id, "p1"), "thin": r.target.Thin(ctx, id),
	} {
		if kindOf(err) != homeward.Unavailable || !strings.Contains(err.Error(), "/mnt/a") || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	other := r.machine
	other.Item = "db01"
	req := r.request()
	req.Machine, req.Retention = other, "/mnt/a"
	if _, err := r.target.Prepare(ctx, req); kindOf(err) != homeward.Unavailable {
		t.Errorf("another item there: %v", err)
	}
	newer := r.gen.Next()
	must(r.target.SetGeneration(ctx, homeward.GenerationRequest{Item: id, Generation: newer}))(t)

	r.gone = ""
	if rep := r.report(); rep.Fault != "" || rep.Points == 0 || rep.Generation != newer {
		t.Errorf("mounted again: %+v", rep)
	}
	r.check()
	if _, err := r.target.Put(ctx, id, strings.NewReader(string(body))); kindOf(err) != homeward.Fenced {
		t.Errorf("a delta of %v after %d came in force: %v", to, newer.Number, err)
	}
}

// Another volume in its place is not taken for it.
func TestVolume_AnotherOneIsMounted(t *testing.T) {
	r := newVolumeRig(t, "/mnt/a")
	if err := r.prepareOn("/mnt/a"); err != nil {
		t.Fatal(err)
	}
	const marker = "/mnt/a/homeward-retention/master-target/volume"
	was, err := durable.ReadFile(r.fs, marker)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteJSON(r.fs, marker, map[string]homeward.ID{"id": homeward.NewID()}); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	if rep := r.report(); !strings.Contains(rep.Fault, "another volume") {
		t.Errorf("report %+v", rep)
	}
	if err := durable.WriteFile(r.fs, marker, was, 0o600); err != nil {
		t.Fatal(err)
	}
	if rep := r.report(); rep.Fault != "" {
		t.Errorf("report %+v", rep)
	}
}

// A volume is used by one target at a time; and a target that lost its own directory
// finds its items on the volumes it is given.
func TestVolume_Adopted(t *testing.T) {
	r := newVolumeRig(t, "/mnt/a")
	if err := r.prepareOn("/mnt/a"); err != nil {
		t.Fatal(err)
	}
	r.steps(3)
	r.gen = r.gen.Next()
	view := must(r.target.FailOver(ctx, homeward.FailOverRequest{Item: id, Generation: r.gen}))(t)

	c := r.lockedConfig()
	c.Dir = "/new"
	second, err := mastertarget.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if ids := second.Items(); len(ids) != 0 {
		t.Errorf("a second target took %v", ids)
	}
	if err := second.Close(ctx); err != nil {
		t.Error(err)
	}

	if err := r.target.Close(ctx); err != nil {
		t.Fatal(err)
	}
	r.nbd = newExporter()
	c.NBD = r.nbd
	if r.target, err = mastertarget.Open(ctx, c); err != nil {
		t.Fatal(err)
	}
	rep := r.report()
	if rep.State != homeward.ReplicaFailedOver || rep.Generation != r.gen || rep.Fault != "" {
		t.Errorf("report %+v", rep)
	}
	r.same(view, r.model[view.Point.Position])
}

// Wherever the power goes in a first Prepare on another volume, the next one works.
func TestVolume_CrashInPrepare(t *testing.T) {
	for last := 1; ; last++ {
		r := newVolumeRig(t, "/mnt/a")
		r.power.count(last)
		err := r.prepareOn("/mnt/a")
		r.crash(last%2 == 0)
		if again := r.prepareOn("/mnt/a"); again != nil {
			t.Fatalf("after %d operations (%v): %v", last, err, again)
		}
		r.steps(2)
		r.check()
		if rep := r.report(); rep.Retention != "/mnt/a" {
			t.Fatalf("after %d operations: on %s", last, rep.Retention)
		}
		if err == nil {
			return
		}
	}
}

func TestHealth(t *testing.T) {
	r := newVolumeRig(t, "/mnt/a")
	if err := r.prepareOn("/mnt/a"); err != nil {
		t.Fatal(err)
	}
	r.free = 1
	alarms := r.target.Alarms()
	if len(alarms) != 1 || alarms[0].Code != "volume-low" || !strings.HasPrefix(alarms[0].Text, "item web01: ") {
		t.Errorf("alarms %+v", alarms)
	}
	r.free = 1 << 40
	if alarms := r.target.Alarms(); len(alarms) != 0 {
		t.Errorf("alarms %+v", alarms)
	}
	if refs := r.target.ReplicaDisks(); len(refs) != 2 || refs[0] != "mem:root" {
		t.Errorf("disks %q", refs)
	}
	if on := r.target.VolumesInUse(); len(on) != 1 || on[0] != "/mnt/a" {
		t.Errorf("volumes %q", on)
	}
	if g := r.target.Generations(); len(g) != 1 || g[id] != r.gen {
		t.Errorf("generations %v", g)
	}
	r.gone = "/mnt/a"
	r.reopen()
	alarms = r.target.Alarms()
	if len(alarms) != 1 || alarms[0].Code != "replica-fault" || !strings.Contains(alarms[0].Text, "/mnt/a") || alarms[0].Remedy == "" || r.target.Generations()[id] != r.gen {
		t.Errorf("alarms %+v, generations %v", alarms, r.target.Generations())
	}
	r.gone = ""
	r.report()
	if alarms := r.target.Alarms(); len(alarms) != 0 {
		t.Errorf("alarms %+v", alarms)
	}
}

// The first items of a volume give it one id, though they are prepared together.
func TestVolume_ManyChooseItFirst(t *testing.T) {
	r := newVolumeRig(t, "/mnt/a")
	var reqs []homeward.ReplicaRequest
	for i := range 8 {
		name := fmt.Sprint("machine", i)
		r.disks[name] = powerloss.NewDisk(16 * block.Size)
		reqs = append(reqs, homeward.ReplicaRequest{
			Machine: homeward.Machine{Item: homeward.ItemID(name), Name: name, Disks: []homeward.Disk{{ID: "root", Size: 16 * block.Size}}},
			Disks:   []string{"mem:" + name}, Generation: r.gen, Base: homeward.Position{}.Base(r.gen), Policy: r.request().Policy, Retention: "/mnt/a"})
	}
	var all sync.WaitGroup
	for _, req := range reqs {
		all.Go(func() {
			if _, err := r.target.Prepare(ctx, req); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r.reopen()
	for _, req := range reqs {
		rep, err := r.target.Report(ctx, homeward.ItemRequest{Item: req.Machine.Item})
		if err != nil || rep.Fault != "" {
			t.Errorf("%s: %v %s", req.Machine.Item, err, rep.Fault)
		}
	}
}
