package agent

import (
	"context"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// everything is every block of the request's disks.
func everything(t *testing.T, req homeward.CaptureRequest) (all []homeward.DiskChanges) {
	t.Helper()
	for _, d := range req.Machine.Disks {
		m := block.NewMap(d.Blocks())
		m.Set(0, m.Blocks())
		data, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, homeward.DiskChanges{Disk: d.ID, Changed: data})
	}
	return all
}

// live is the request of a leg to another replica, which stands at a state and is
// prepared for it.
func (r *rig) live(other *target, at homeward.Position) homeward.CaptureRequest {
	r.t.Helper()
	next := r.request
	next.Generation, next.Live, next.InitialAll, next.Sink = r.request.Generation.Next(), true, false, "https://other:1"
	next.Base = at.Base(next.Generation)
	if err := other.Prepare("web01", next.Generation, next.Base); err != nil {
		r.t.Fatal(err)
	}
	return next
}

// twoTargets is a rig whose agent reaches a second target by another URL.
func twoTargets(t *testing.T) (*rig, *target) {
	t.Helper()
	r, other := newRig(t), newTarget()
	r.cfg.Dial = func(url string) homeward.Sink {
		if url == "https://other:1" {
			return other
		}
		return r.target
	}
	return r, other
}

// Another replica takes over under a guest that writes: it keeps its disks, the other
// replica gets everything, the first nothing more; and so after a restart.
func TestPrepare_live(t *testing.T) {
	r, other := twoTargets(t)
	rep := r.start()
	g := connect(t, rep, r.rng, 5*time.Second)
	defer g.close()
	g.mustWrite(100)
	r.cut()
	g.mustWrite(50)
	r.request = r.live(other, homeward.Position{})
	r.request.Initial = everything(t, r.request)
	again := r.prepare()
	if again.Disks[0].URI != rep.Disks[0].URI || again.Clients != len(rep.Disks) || !again.Complete {
		t.Fatalf("the guest lost its disks, or the map is not whole: %+v", again)
	}
	g.mustWrite(100)
	r.cut()
	before := len(r.target.Applied("web01"))
	if n := g.checkPrefix(t, other.Content("web01")); n != 250 {
		t.Errorf("the other replica ends with write %d", n)
	}
	if same := r.prepare(); same.Generation != r.request.Generation {
		t.Errorf("asked again: %+v", same)
	}
	r.close()
	r.open()
	g.mustWrite(50)
	r.cut()
	if n := g.checkPrefix(t, other.Content("web01")); n != 300 || len(r.target.Applied("web01")) != before {
		t.Errorf("after a restart the other replica ends with write %d; the first took %d deltas", n, len(r.target.Applied("web01"))-before)
	}
	final, err := r.agent.Handover(t.Context(), homeward.GenerationRequest{Item: "web01", Generation: r.request.Generation.Next()})
	if err != nil || final.Since.Generation != r.request.Generation {
		t.Fatalf("handed over: %v %+v", err, final.Since)
	}
	if err := g.write(1); err == nil {
		t.Error("the guest writes after the handover (I-6)")
	}
}

// What the map does not lead to is suspect: no point is made before it is compared.
func TestPrepare_liveUnknown(t *testing.T) {
	r, other := twoTargets(t)
	g := connect(t, r.start(), r.rng, 0)
	defer g.close()
	g.mustWrite(100)
	r.cut()
	sink := r.request.Sink
	r.request.Sink = "" // it comes to rest
	known := r.live(other, r.prepare().Applied)
	rep, err := r.agent.Prepare(t.Context(), known)
	if err != nil || !rep.Complete || rep.Disks[0].SuspectBytes != 0 {
		t.Fatalf("it was at the replica's state: %v %+v", err, rep)
	}
	strange := known // nobody answers for it yet
	strange.Generation, strange.Sink = known.Generation.Next(), sink
	strange.Base = homeward.Position{Cut: homeward.NewID()}.Base(strange.Generation)
	rep, err = r.agent.Prepare(t.Context(), strange)
	if err != nil || rep.Complete || rep.Disks[0].SuspectBytes != diskSizes[0] || rep.Clients != len(rep.Disks) {
		t.Fatalf("a map is trusted against a strange replica: %v %+v", err, rep)
	}
}

func TestPrepare_liveRefusals(t *testing.T) {
	r, other := twoTargets(t)
	req := r.live(other, homeward.Position{})
	r.open()
	if _, err := r.agent.Prepare(t.Context(), req); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("nothing runs: %v", err)
	}
	r.prepare()
	shrunk := req
	shrunk.Disks = []string{req.Disks[1], req.Disks[0]}
	if _, err := r.agent.Prepare(t.Context(), shrunk); homeward.KindOf(err) != homeward.Exists {
		t.Errorf("other disks: %v", err)
	}
	fence := homeward.GenerationRequest{Item: "web01", Generation: req.Generation}
	if _, err := r.agent.SetGeneration(context.Background(), fence); err != nil {
		t.Fatal(err)
	}
	req.Generation = req.Generation.Next()
	if _, err := r.agent.Prepare(t.Context(), req); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("fenced: %v", err)
	}
}
