package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/member"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
)

// An item keeps its points on a volume; while that is not mounted the item is at
// fault, and afterwards as before.
func TestRole_RetentionVolume(t *testing.T) {
	s := newSite(t)
	for _, dir := range []string{"points", "archive"} {
		if err := os.Mkdir(s.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	line := s.line(pki.MasterTarget) + " --retention points --retention archive"
	p := s.start(line)
	target, ctx, g := role.MasterTarget(s.node("m1")), s.within(), homeward.Generation{}.Next()
	req := homeward.ReplicaRequest{
		Machine: s.machine(), Disks: []string{"file:" + s.path("replica.img")}, Create: true, Generation: g, Base: homeward.Position{}.Base(g),
		Policy: homeward.Policy{}.WithDefaults(), Retention: s.path("archive"),
	}
	if r, err := target.Prepare(ctx, req); err != nil || r.Retention != s.path("archive") {
		t.Fatalf("%+v: %v", r, err)
	}
	h, err := role.Member(s.node("m1")).Health(ctx, homeward.HealthRequest{Generations: true})
	if err != nil || h.Disks != 1 || h.Generations["web01"] != g {
		t.Errorf("%+v: %v", h, err)
	}
	replica := slices.ContainsFunc(h.Volumes, func(v homeward.Volume) bool { return slices.Contains(v.Uses, member.UseReplica) })
	archive := slices.ContainsFunc(h.Volumes, func(v homeward.Volume) bool {
		return v.Path == s.path("archive") && slices.Equal(v.Uses, []string{member.UseRetention}) && !v.Default
	})
	if !replica || !archive {
		t.Errorf("volumes %+v", h.Volumes)
	}
	paths := map[string]int{} // the archive is given, and an item is on it
	for _, v := range h.Volumes {
		if paths[v.Path]++; paths[v.Path] > 1 {
			t.Errorf("%s is listed twice: %+v", v.Path, h.Volumes)
		}
	}
	other := req
	other.Retention = s.path("points")
	if _, err := target.Prepare(ctx, other); homeward.KindOf(err) != homeward.Conflict {
		t.Errorf("on another volume: %v", err)
	}

	p.kill()
	if err := os.Rename(s.path("archive"), s.path("unmounted")); err != nil {
		t.Fatal(err)
	}
	s.start(line)
	s.node("m1")
	r, err := target.Report(ctx, homeward.ItemRequest{Item: "web01"})
	if err != nil || !strings.Contains(r.Fault, s.path("archive")) || r.Remedy == "" || r.Generation != g {
		t.Errorf("not mounted: %+v: %v", r, err)
	}
	if _, err := target.Points(ctx, homeward.ItemRequest{Item: "web01"}); homeward.KindOf(err) != homeward.Unavailable {
		t.Errorf("not mounted: %v", err)
	}
	if h, err := role.Member(s.node("m1")).Health(ctx, homeward.HealthRequest{}); err != nil || len(h.Alarms) != 1 {
		t.Errorf("not mounted: %+v: %v", h, err)
	}
	if err := os.Rename(s.path("unmounted"), s.path("archive")); err != nil {
		t.Fatal(err)
	}
	if r, err := target.Prepare(ctx, req); err != nil || r.Fault != "" || r.Points == 0 && r.State != homeward.ReplicaReplicating {
		t.Errorf("mounted again: %+v: %v", r, err)
	}
	s.run("master-target points --dir m1.d").wants(5).says("held by process")
}
