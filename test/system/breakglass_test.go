package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/site/local/records"
	"github.com/homeward-dr/homeward/test/stage"
)

// Everything is dead but the disks of the away site: its points are listed,
// verified, served and booted from the command line, and what comes back later
// accepts the result.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{})
	r.write(100)
	r.replicated()
	r.write(100)
	r.replicated()
	point := r.newest()
	least := r.console.AckedBy(point.Mark.At)
	r.must(r.Lose(r.ctx, r.Home))
	r.Away.Agent.Kill()
	r.Away.Process.Kill()
	r.Away.Target.Kill()
	dir := r.Away.Target.Dir()

	type listed struct {
		Item   homeward.ItemID  `json:"item"`
		Points []homeward.Point `json:"points"`
	}
	lists := answer[[]listed](t, "master-target", "points", "--dir", dir)
	if len(lists) != 1 || len(lists[0].Points) < 2 {
		t.Fatalf("points: %+v", lists)
	}
	type verified struct {
		homeward.VerifyReport
	}
	for _, v := range answer[[]verified](t, "master-target", "verify", "--dir", dir) {
		if len(v.Faults) != 0 || v.Files == 0 {
			t.Errorf("verify: %+v", v)
		}
	}
	// An older point is served read-only, the newest is recovered; twice the same.
	older := lists[0].Points[len(lists[0].Points)-2]
	view, stop := serving[homeward.View](t, "master-target", "serve", "--dir", dir, "--point", older.Position.String())
	r.holds(view, r.console.AckedBy(older.Mark.At))
	stop()
	first, stop := serving[homeward.View](t, "master-target", "recover", "--dir", dir)
	r.holds(first, least)
	r.runsOn(first)
	stop()
	again, stop := serving[homeward.View](t, "master-target", "recover", "--dir", dir)
	if again.Generation != first.Generation || first.Generation.Number <= point.Position.Generation.Number {
		t.Errorf("recovered under generation %+v, then %+v, over %+v", first.Generation, again.Generation, point.Position.Generation)
	}
	r.holds(again, least+1) // what ran there meanwhile
	stop()
	r.comesBackFenced(first.Generation)
}

// holds demands that the disks of a view hold whole records up to least.
func (r *rig) holds(v homeward.View, least uint64) {
	r.t.Helper()
	args := []string{"workload", "--verify"}
	for _, d := range v.Disks {
		args = append(args, "--disk", d.URI)
	}
	found := answer[records.Found](r.t, args...)
	if found.Bad != 0 || found.Last < least {
		r.t.Errorf("the view of %s holds records up to %d, %d damaged; %d was durable then", v.Point.At, found.Last, found.Bad, least)
	}
}

// runsOn runs the machine on a view's disks until it has announced some records.
func (r *rig) runsOn(v homeward.View) {
	r.t.Helper()
	args := []string{"--gap", "2ms"}
	for _, d := range v.Disks {
		args = append(args, "--disk", d.URI)
	}
	r.announces(20, args...)
}

// comesBackFenced starts the home site's roles: the generation that was raised
// without them must be in force there before the old machine could write.
func (r *rig) comesBackFenced(g homeward.Generation) {
	r.t.Helper()
	for _, p := range r.Away.Programs() {
		r.must(r.Restart(r.ctx, p))
	}
	r.must(r.Restore(r.ctx, r.Home))
	rep, err := r.Away.Side.Target.Report(r.ctx, r.id())
	r.must(err)
	if rep.State != homeward.ReplicaFailedOver || rep.Generation != g {
		r.t.Errorf("the master target says %s under %+v", rep.State, rep.Generation)
	}
	r.eventually("the old side to be fenced", func() (bool, error) {
		rep, err := r.Home.Side.Agent.Report(r.ctx, r.id())
		fenced := false
		for _, a := range rep.Alarms {
			fenced = fenced || a.Code == "fenced"
		}
		return fenced && rep.State == homeward.CaptureHeld && rep.Clients == 0, err
	})
}

// A flipped byte in what a volume stores is found offline, with the file, what it
// costs and what to do; and a damaged point is never served as if it were whole.
func TestVerifyFindsFlippedByte(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{})
	for range 3 {
		r.write(50)
		r.replicated()
	}
	r.must(r.Lose(r.ctx, r.Home))
	r.Away.Target.Kill()
	dir := r.Away.Target.Dir()
	undo, err := filepath.Glob(filepath.Join(dir, "*", "*", "undo", "*"))
	r.must(err)
	if len(undo) == 0 {
		undo, err = filepath.Glob(filepath.Join(dir, "*", "undo", "*"))
		r.must(err)
	}
	if len(undo) < 2 {
		t.Fatalf("no undo files in %s", dir)
	}
	victim := undo[len(undo)/2]
	r.flip(victim, 0.5)
	o := homewardCLI(t, "master-target", "verify", "--dir", dir)
	if o.code != homeward.Table[homeward.Corrupt].Exit {
		t.Errorf("exit code %d", o.code)
	}
	tells(t, o.out+o.err, filepath.Base(victim), "what to do", "damaged")
	t.Log(strings.TrimSpace(o.out))
}

// flip changes one byte of a file at a part of its length.
func (r *rig) flip(path string, at float64) {
	r.t.Helper()
	raw, err := os.ReadFile(path)
	r.must(err)
	if len(raw) == 0 {
		r.t.Fatalf("%s is empty", path)
	}
	raw[min(int(float64(len(raw))*at), len(raw)-1)] ^= 0x40
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	r.must(err)
	_, err = f.Write(raw)
	r.must(err)
	r.must(f.Close())
}
