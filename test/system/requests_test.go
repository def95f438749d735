package system

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/test/stage"
)

// Requests that cannot be carried out are refused with what is wrong and what to
// do, through the real calls, and leave nothing half done: the machine can be
// protected afterwards.
func TestBadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	r := build(t, stage.Options{})
	home := r.Home.Side
	image := strings.TrimPrefix(home.Disks[0], "file:")
	g := homeward.Generation{}.Next()
	capture := func(change func(*homeward.CaptureRequest)) func() error { return r.captures(g, change) }
	replica := func(change func(*homeward.ReplicaRequest)) func() error { return r.replicates(g, change) }
	small := filepath.Join(r.Dir, "small.raw")
	r.must(os.WriteFile(small, make([]byte, 1<<20), 0o600))
	locked := r.readOnlyImage()
	for _, c := range []struct {
		name string
		do   func() error
		kind homeward.Kind
		says []string
	}{
		{"wrong size", capture(func(q *homeward.CaptureRequest) { q.Disks[0] = "file:" + small }), homeward.Invalid, []string{"small.raw", "1048576", fmt.Sprint(64 << 20)}},
		{"missing image", capture(func(q *homeward.CaptureRequest) { q.Disks[0] = "file:/nowhere/disk.raw" }), homeward.NotFound, []string{"/nowhere/disk.raw"}},
		{"unknown scheme", capture(func(q *homeward.CaptureRequest) { q.Disks[0] = "qcow2:" + image }), homeward.Unsupported, []string{"qcow2", "file"}},
		{"a disk twice", capture(func(q *homeward.CaptureRequest) { q.Disks[1] = q.Disks[0] }), homeward.Invalid, []string{"disks[1]"}},
		{"too few disks", capture(func(q *homeward.CaptureRequest) { q.Disks = q.Disks[:1] }), homeward.Invalid, []string{"disks"}},
		{"no generation", capture(func(q *homeward.CaptureRequest) { q.Generation = homeward.Generation{} }), homeward.Invalid, []string{"generation"}},
		{"impatient policy", capture(func(q *homeward.CaptureRequest) { q.Policy.MinInterval = 1 }), homeward.Invalid, []string{"min_interval", "50ms"}},
		{"bad sink", capture(func(q *homeward.CaptureRequest) { q.Sink = "not a url" }), homeward.Invalid, []string{"sink", "https://"}},
		{"bad name", capture(func(q *homeward.CaptureRequest) { q.Machine.Item = "../x" }), homeward.Invalid, []string{"../x"}},
		{"read-only medium", capture(func(q *homeward.CaptureRequest) { q.Disks[0] = "file:" + locked }), "", []string{locked, "read-only"}},
		{"replica's disk missing", replica(func(q *homeward.ReplicaRequest) {}), homeward.NotFound, []string{"web01-root.raw"}},
		{"replica's disk too small", replica(func(q *homeward.ReplicaRequest) { q.Disks[0] = "file:" + small }), homeward.Invalid, []string{"small.raw", "1048576"}},
		{"replica's scheme", replica(func(q *homeward.ReplicaRequest) { q.Disks[0] = "s3:x" }), homeward.Unsupported, []string{"s3", "file"}},
		{"unknown item", func() error { _, err := home.Agent.Report(r.ctx, homeward.ItemRequest{Item: "nobody"}); return err }, homeward.NotFound, []string{"nobody"}},
		{"unknown item at target", func() error {
			_, err := r.Away.Side.Target.FailOver(r.ctx, homeward.FailOverRequest{Item: "nobody", Generation: g})
			return err
		}, homeward.NotFound, []string{"nobody"}},
		{"route to nowhere", func() error {
			_, err := home.Process.Prepare(r.ctx, homeward.RouteRequest{Item: "web01", Generation: g, Target: "mt-away"})
			return err
		}, homeward.Invalid, []string{"mt-away", "https://"}},
	} {
		err := c.do()
		if err == nil || c.kind != "" && homeward.KindOf(err) != c.kind || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: kind %q, remedy %q, %v", c.name, homeward.KindOf(err), homeward.RemedyOf(err), err)
			continue
		}
		tells(t, err.Error(), c.says...)
	}
	r.must(r.Item.Protect(r.ctx))
	r.hear(r.Home, 0)
	r.replicated()
	r.prove()
}

// captures calls the home agent's Prepare with a request that change made wrong.
func (r *rig) captures(g homeward.Generation, change func(*homeward.CaptureRequest)) func() error {
	return func() error {
		req := homeward.CaptureRequest{Machine: r.Machine(), Disks: slices.Clone(r.Home.Side.Disks), Generation: g, InitialAll: true,
			Sink: r.Home.Side.SinkURL, Policy: policy()}
		change(&req)
		_, err := r.Home.Side.Agent.Prepare(r.ctx, req)
		return err
	}
}

// replicates does the same with the away master target's.
func (r *rig) replicates(g homeward.Generation, change func(*homeward.ReplicaRequest)) func() error {
	return func() error {
		req := homeward.ReplicaRequest{Machine: r.Machine(), Disks: slices.Clone(r.Away.Side.Disks), Generation: g,
			Base: homeward.Position{}.Base(g), Policy: policy().WithDefaults()}
		change(&req)
		_, err := r.Away.Side.Target.Prepare(r.ctx, req)
		return err
	}
}

// readOnlyImage is a disk on a medium that takes no writes, even from root.
func (r *rig) readOnlyImage() string {
	r.t.Helper()
	dir := filepath.Join(r.Dir, "readonly")
	r.small(dir, 80<<20)
	path := filepath.Join(dir, "disk.raw")
	f, err := os.Create(path)
	r.must(err)
	r.must(f.Truncate(64 << 20))
	r.must(f.Close())
	r.must(unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	return path
}

// Requests at the wrong time: the state is named, and what would be possible.
func TestRequestsAtTheWrongTimeAreRefused(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{})
	r.write(20)
	r.replicated()
	it := r.Item
	old := homeward.Generation{Number: it.Generation.Number, ID: homeward.NewID()}
	for _, c := range []struct {
		name string
		do   func(context.Context) error
		kind homeward.Kind
		says []string
	}{
		{"a second agent for the same disk", func(ctx context.Context) error {
			_, err := r.Away.Side.Agent.Prepare(ctx, homeward.CaptureRequest{Machine: r.Machine(), Disks: r.Home.Side.Disks, Generation: it.Generation, InitialAll: true, Policy: policy()})
			return err
		}, homeward.InUse, []string{"web01-root.raw"}},
		{"a target on the running disk", func(ctx context.Context) error {
			_, err := r.Home.Side.Target.Prepare(ctx, homeward.ReplicaRequest{Machine: r.Machine(), Disks: r.Home.Side.Disks, Generation: it.Generation, Base: it.Base, Policy: policy().WithDefaults()})
			return err
		}, homeward.InUse, []string{"web01-root.raw"}},
		{"another generation of the same number", func(ctx context.Context) error {
			_, err := r.Away.Side.Target.FailOver(ctx, homeward.FailOverRequest{Item: it.ID(), Generation: old})
			return err
		}, homeward.Fenced, []string{"generation"}},
		{"drain while a guest is connected", func(ctx context.Context) error {
			_, err := r.Home.Side.Agent.Drain(ctx, homeward.DrainRequest{Item: it.ID(), Stopped: true})
			return err
		}, "", []string{"connected"}},
		{"release what captures", func(ctx context.Context) error {
			_, err := r.Home.Side.Agent.Release(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
			return err
		}, homeward.Conflict, []string{"hand it over"}},
		{"promote what did not fail over", func(ctx context.Context) error {
			_, err := r.Away.Side.Target.Promote(ctx, homeward.GenerationRequest{Item: it.ID(), Generation: it.Generation})
			return err
		}, homeward.Conflict, []string{"fail over"}},
		{"a point that does not exist", func(ctx context.Context) error {
			_, err := r.Away.Side.Target.OpenView(ctx, homeward.ViewRequest{Item: it.ID(), Name: "x", Kind: homeward.ViewReadOnly, Point: homeward.Position{Generation: old, Sequence: 9}})
			return err
		}, homeward.NotFound, []string{"point"}},
		{"commit without failover", it.Commit, homeward.Conflict, []string{"protected"}},
	} {
		err := c.do(r.ctx)
		if err == nil || c.kind != "" && homeward.KindOf(err) != c.kind || homeward.RemedyOf(err) == "" {
			t.Errorf("%s: kind %q, remedy %q, %v", c.name, homeward.KindOf(err), homeward.RemedyOf(err), err)
			continue
		}
		tells(t, err.Error(), c.says...)
	}
	r.write(20)
	r.prove()
}

// Who shows the wrong certificate gets nowhere, and is told why.
func TestWrongCertificates(t *testing.T) {
	t.Parallel()
	r := build(t, stage.Options{})
	ids := filepath.Join(r.Dir, "pki")
	o := homewardCLI(t, "agent", "--dir", filepath.Join(r.Dir, "x"), "--identity", filepath.Join(ids, "ps-home"))
	if o.code != homeward.Table[homeward.Invalid].Exit {
		t.Errorf("exit code %d", o.code)
	}
	tells(t, o.err, "--identity", "ps-home", "role agent")

	stranger := filepath.Join(r.Dir, "stranger")
	authority, err := pki.CreateAuthority(durable.OS(), filepath.Join(stranger, "authority"), "somebody else")
	r.must(err)
	r.must(authority.Issue(pki.Request{Peer: pki.Peer{Role: pki.Agent, Name: "agent-home"}}, filepath.Join(stranger, "agent-home")))
	url := r.Away.Side.TargetURL + "/v1/items/web01/standing"
	for _, c := range []struct {
		name, dir string
		want      int
	}{
		{"a stranger", filepath.Join(stranger, "agent-home"), 0},
		{"a process server", filepath.Join(ids, "ps-home"), http.StatusNotFound}, // it may ask; the item is not known yet
		{"an agent", filepath.Join(ids, "agent-home"), http.StatusForbidden},
	} {
		id, err := pki.LoadIdentity(durable.OS(), c.dir)
		r.must(err)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: id.ClientTLS(pki.MasterTarget)}}
		resp, err := client.Get(url)
		client.CloseIdleConnections()
		if c.want == 0 {
			if err == nil {
				t.Errorf("%s got an answer: %s", c.name, resp.Status)
				_ = resp.Body.Close()
			}
			continue
		}
		r.must(err)
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s got %s", c.name, resp.Status)
		}
	}
	if out, err := exec.CommandContext(r.ctx, "openssl", "s_client", "-connect", strings.TrimPrefix(r.Away.Side.TargetURL, "https://"), "-tls1_2").CombinedOutput(); err == nil {
		t.Errorf("TLS 1.2 is accepted:\n%s", out)
	}
}
