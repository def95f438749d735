package agent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/capture"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// memory is a replica's disk.
func (w *target) memory(t *testing.T, disk int) *block.Memory {
	t.Helper()
	m := block.NewMemory(diskSizes[disk])
	for at, data := range w.Content("web01") {
		if at.Disk != disk || data == nil {
			continue
		}
		if _, err := m.WriteAt(data, at.Index*block.Size); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (w *target) root(t *testing.T, disk int) block.Hash {
	t.Helper()
	h, err := block.NewTree(w.memory(t, disk)).Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (r *rig) root(disk int, at homeward.Position) (block.Hash, homeward.DigestReport) {
	r.t.Helper()
	size := diskSizes[disk]
	rep, err := r.agent.Digest(r.t.Context(), homeward.DigestRequest{Item: "web01", Disk: r.request.Machine.Disks[disk].ID, At: at,
		Level: block.RootLevel(size), Count: 1})
	if err != nil {
		r.t.Fatal(err)
	}
	return block.Hash(rep.Hashes), rep
}

// Both sides digest at one frozen point and agree, while the guest writes on.
func TestFreeze(t *testing.T) {
	r := newRig(t)
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(300)
	frozen, err := r.agent.Freeze(t.Context(), r.item())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.agent.Freeze(t.Context(), r.item()); err != nil || again.Position != frozen.Position {
		t.Errorf("frozen again: %v %v", again, err)
	}
	g.mustWrite(300)
	if rep := r.report(); rep.Phase != "frozen for a proof" {
		t.Errorf("phase %q", rep.Phase)
	}
	for disk := range diskSizes {
		if got, rep := r.root(disk, frozen.Position); got != r.target.root(t, disk) || rep.Read == 0 {
			t.Errorf("disk %d differs at the frozen point", disk)
		}
	}
	if _, err := r.agent.Digest(t.Context(), homeward.DigestRequest{Item: "web01", Disk: "disk-0", At: homeward.Position{Sequence: 5}, Count: 1}); homeward.KindOf(err) != homeward.NotFound {
		t.Errorf("digest of another point: %v", err)
	}
	for range 2 {
		if _, err := r.agent.Unfreeze(t.Context(), r.item()); err != nil {
			t.Fatal(err)
		}
	}
	r.cut()
	for disk := range diskSizes {
		live, _ := r.root(disk, homeward.Position{})
		if live != r.target.root(t, disk) {
			t.Errorf("disk %d differs after all", disk)
		}
	}
	if n := g.checkPrefix(t, r.target.Content("web01")); n != 600 {
		t.Errorf("the replica ends with write %d", n)
	}
}

// A group's members are cut at one instant.
func TestGroup(t *testing.T) {
	r := newRig(t)
	rep := r.start()
	second := newRequest(t, t.TempDir(), "db07")
	if err := r.target.Prepare("db07", second.Generation, second.Base); err != nil {
		t.Fatal(err)
	}
	other, err := r.agent.Prepare(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	rep.Disks = append(rep.Disks, other.Disks...) // the guest's writes depend on each other across both
	g := connect(t, rep, r.rng, 0)
	defer g.close()
	g.mustWrite(100)
	for range 3 {
		r.cutGroup(g, "web01", "db07")
	}
	token := homeward.NewID()
	if _, err := r.agent.CutHeld(t.Context(), homeward.HoldRequest{Item: "web01", Token: token}); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("cut without a hold: %v", err)
	}
}

// cutGroup cuts while the guest writes, and checks the union of both members.
func (r *rig) cutGroup(g *guest, items ...homeward.ItemID) {
	t := r.t
	t.Helper()
	token := homeward.NewID()
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
				if err := g.write(1); err != nil {
					stopped <- err
					return
				}
			}
		}
	}()
	for _, id := range items {
		if _, err := r.agent.Hold(t.Context(), homeward.HoldRequest{Item: id, Token: token}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range items {
		rep, err := r.agent.CutHeld(t.Context(), homeward.HoldRequest{Item: id, Token: token})
		if err != nil || rep.Mark.Kind != homeward.MarkGroup || rep.Mark.Group != token {
			t.Fatalf("%+v %v", rep, err)
		}
	}
	for _, id := range items {
		if _, err := r.agent.ReleaseHold(t.Context(), homeward.HoldRequest{Item: id, Token: token}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	union := shiptest.Content{}
	for n, id := range items {
		r.await("group point", func(homeward.CaptureReport) bool { return r.groupPoint(id, token, n, union) })
	}
	g.checkPrefix(t, union)
}

// groupPoint adds what item n held at the group's instant to union.
func (r *rig) groupPoint(id homeward.ItemID, token homeward.ID, n int, union shiptest.Content) (found bool) {
	r.target.points(r.t, id, func(_ homeward.Position, m homeward.Mark, c shiptest.Content) {
		if m.Group != token {
			return
		}
		found = true
		for at, data := range c {
			at.Disk += n * len(diskSizes)
			union[at] = data
		}
	})
	return found
}

// A reboot without a clean end makes hot extents suspect: no point before they
// are compared.
func TestResume_reboot(t *testing.T) {
	r := newRig(t)
	sink := filepath.Join(r.cfg.SocketDir, "sink")
	serveSink(t, sink, r.target)
	c := startChild(t, childSpec{Dir: r.cfg.Dir, LiveDir: r.cfg.LiveDir, SocketDir: r.cfg.SocketDir, Sink: sink, Prepare: &r.request})
	g := connect(t, r.exports(), r.rng, 0)
	g.mustWrite(100)
	c.kill()
	g.close()
	if err := os.RemoveAll(r.cfg.LiveDir); err != nil { // what a reboot does to a tmpfs
		t.Fatal(err)
	}
	r.open()
	now := r.report()
	if now.Complete || now.Disks[0].SuspectBytes == 0 || !hasAlarm(now, alarmSuspect) {
		t.Fatalf("the map is trusted: %+v", now)
	}
	if ch := r.changes(); len(ch.Disks[0].Reasons) == 0 {
		t.Errorf("no reason: %+v", ch.Disks[0])
	}
	r.checkResync(g)
}

// checkResync expects a point that holds every write, once suspects are compared.
func (r *rig) checkResync(g *guest) {
	t := r.t
	t.Helper()
	r.resync()
	if n := g.checkPrefix(t, r.target.Content("web01")); n != uint64(len(g.journal)) {
		t.Errorf("the replica ends with write %d of %d", n, len(g.journal))
	}
	if rep := r.report(); rep.Disks[0].SuspectBytes != 0 || hasAlarm(rep, alarmSuspect) {
		t.Errorf("%+v", rep)
	}
}

// resync compares suspects by digest, as the control plane does, and cuts.
func (r *rig) resync() {
	t := r.t
	t.Helper()
	changes := r.changes()
	mark := homeward.MarkRequest{Item: "web01", Generation: r.request.Generation, Complete: true, Suspects: changes.Suspects}
	for i, dc := range changes.Disks {
		if len(dc.Suspect) == 0 {
			continue
		}
		suspect, err := block.UnmarshalMap(dc.Suspect, r.request.Machine.Disks[i].Blocks())
		if err != nil {
			t.Fatal(err)
		}
		differ, _, err := block.Compare(t.Context(), digester{r, i}, block.NewTree(r.target.memory(t, i)), suspect)
		if err != nil {
			t.Fatal(err)
		}
		data, err := differ.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		mark.Disks = append(mark.Disks, homeward.DiskChanges{Disk: dc.Disk, Changed: data})
	}
	// A comparison of another set, one from before a second power loss say, counts for nothing.
	stale := mark
	stale.Suspects = homeward.NewID()
	if _, err := r.agent.MarkChanged(t.Context(), stale); r.report().Disks[0].SuspectBytes > 0 && homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("suspects cleared that were not compared: %v", err)
	}
	if _, err := r.agent.MarkChanged(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	r.cut()
}

// digester is a disk of the agent as one side of a comparison.
type digester struct {
	r    *rig
	disk int
}

func (d digester) Size() int64 { return diskSizes[d.disk] }

func (d digester) Hashes(ctx context.Context, level int, index, count int64) ([]block.Hash, error) {
	rep, err := d.r.agent.Digest(ctx, homeward.DigestRequest{Item: "web01", Disk: d.r.request.Machine.Disks[d.disk].ID, Level: level, Index: index, Count: count})
	var out []block.Hash
	for b := rep.Hashes; len(b) > 0; b = b[32:] {
		out = append(out, block.Hash(b[:32]))
	}
	return out, err
}

// Clients see what is not applied as a meta context.
func TestDirtyContext(t *testing.T) {
	r := newRig(t)
	r.request.Sink, r.request.InitialAll = "", false
	rep := r.start()
	c, err := nbd.Dial(t.Context(), nbd.ClientOptions{URI: rep.Disks[0].URI, Contexts: []string{dirtyContext}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteAt(bytes.Repeat([]byte{1}, 5000), 8192); err != nil {
		t.Fatal(err)
	}
	var dirty, clean int64
	for e, err := range (dirtyExtents{changed: func() *block.Map { return r.agent.items["web01"].changed(0) }}).Extents(9000, 10000) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Flags == 1 {
			dirty += e.Len
		} else {
			clean += e.Len
		}
	}
	if dirty != 4*4096-9000 || dirty+clean != 10000 {
		t.Errorf("%d bytes dirty, %d clean", dirty, clean)
	}
}

// Writes nobody saw are found against a baseline.
func TestLateCapture(t *testing.T) {
	r := newRig(t)
	r.open()
	req := homeward.BaselineRequest{Machine: r.request.Machine, Disks: r.request.Disks}
	late, err := r.agent.ChangedSince(t.Context(), req)
	if err != nil || late.Disks[0].SuspectBytes != diskSizes[0] || len(late.Disks[0].Reasons) == 0 {
		t.Errorf("without a baseline: %+v %v", late, err)
	}
	if b, err := r.agent.Baseline(t.Context(), req); err != nil || b.ID.IsZero() {
		t.Fatal(b, err)
	}
	f, err := os.OpenFile(r.request.Disks[1][len("file:"):], os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{1}, 3*block.Size)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	late, err = r.agent.ChangedSince(t.Context(), req)
	if err != nil || late.Disks[0].ChangedBytes != 0 || late.Disks[1].ChangedBytes != block.Size || late.Disks[1].SuspectBytes != 0 {
		t.Errorf("%+v %v", late, err)
	}
}

// When the guest overwrites more than there is room for, the proof fails, and
// replication goes on.
func TestFreeze_overBudget(t *testing.T) {
	r := newRig(t)
	r.request.Policy.CacheBytes, r.request.Policy.SpillBytes = 1<<20, 4096
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	overwrite := func(with byte) {
		if _, err := g.disks[0].WriteAt(bytes.Repeat([]byte{with}, 4<<20), 0); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(2)
	frozen, err := r.agent.Freeze(t.Context(), r.item())
	if err != nil {
		t.Fatal(err)
	}
	overwrite(3)
	_, err = r.agent.Digest(t.Context(), homeward.DigestRequest{Item: "web01", Disk: "disk-0", At: frozen.Position, Count: 1})
	if !errors.Is(err, capture.ErrDemoted) {
		t.Errorf("digest: %v", err)
	}
	r.cut()
}
