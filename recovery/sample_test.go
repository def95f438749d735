package recovery

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// copyOf is a disk that can be digested behind a role.
type copyOf struct {
	disk          *block.Memory
	before, after func() // called around each digest
}

func (c *copyOf) digest(ctx context.Context, req homeward.DigestRequest) (homeward.DigestReport, error) {
	c.before()
	hashes, err := block.NewTree(c.disk).Hashes(ctx, req.Level, req.Index, req.Count)
	c.after()
	rep := homeward.DigestReport{Size: c.disk.Size()}
	for _, h := range hashes {
		rep.Hashes = append(rep.Hashes, h[:]...)
	}
	return rep, err
}

type sampledAgent struct {
	homeward.Agent
	copyOf
}

func (a *sampledAgent) Digest(ctx context.Context, req homeward.DigestRequest) (homeward.DigestReport, error) {
	return a.digest(ctx, req)
}

// Changes are none: everything is applied.
func (a *sampledAgent) Changes(context.Context, homeward.ItemRequest) (homeward.Changes, error) {
	return homeward.Changes{Disks: []homeward.DiskChanges{{Disk: "d"}}}, nil
}

type sampledTarget struct {
	homeward.MasterTarget
	copyOf
}

func (t *sampledTarget) Digest(ctx context.Context, req homeward.DigestRequest) (homeward.DigestReport, error) {
	return t.digest(ctx, req)
}

// A block that is written, shipped and applied between the reads of the two sides
// is no fault of the map; one that stays different is.
func TestSample_WrittenAndAppliedBetweenTheReads(t *testing.T) {
	const size = 256 * block.Size
	for _, fault := range []bool{false, true} {
		nothing := func() {}
		read := make(chan struct{}, size/block.Size) // by the agent, of which the target is behind
		agent := &sampledAgent{copyOf: copyOf{disk: block.NewMemory(size), before: nothing, after: func() { read <- struct{}{} }}}
		target := &sampledTarget{copyOf: copyOf{disk: block.NewMemory(size), after: nothing}}
		var mu sync.Mutex
		writes := 0
		target.before = func() {
			<-read
			mu.Lock()
			defer mu.Unlock()
			if writes++; writes > 4 {
				return
			}
			content := bytes.Repeat([]byte{byte(writes)}, size) // any block may be sampled
			if _, err := agent.disk.WriteAt(content, 0); err != nil {
				t.Error(err)
			}
			if fault {
				return // it is never shipped
			}
			if _, err := target.disk.WriteAt(content, 0); err != nil {
				t.Error(err)
			}
		}
		m := homeward.Machine{Item: "web01", Disks: []homeward.Disk{{ID: "d", Size: size}}}
		it := New(m, homeward.Policy{}, &Side{Agent: agent}, &Side{Target: target}, slog.New(slog.DiscardHandler))
		set := it.noDifferences()
		if _, err := it.sample(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		if writes < 2 {
			t.Fatalf("the sides were compared %d times", writes)
		}
		if suspect := set.disks[0].suspect.Count() > 0; suspect != fault {
			t.Errorf("with a fault of the map: %t; distrusted: %t, because %q", fault, suspect, set.disks[0].reasons)
		}
	}
}
