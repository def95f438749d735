package recovery_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// seen is what both sides say of an item now.
func seen(ctx context.Context, it *recovery.Item) map[string]recovery.Sight {
	all := map[string]recovery.Sight{}
	id := homeward.ItemRequest{Item: it.ID()}
	for _, side := range []*recovery.Side{it.Running, it.Standby} {
		s := recovery.Sight{Disks: side.Disks}
		s.Agent.V, s.Agent.Err = side.Agent.Report(ctx, id)
		s.Process.V, s.Process.Err = side.Process.Report(ctx, id)
		s.Target.V, s.Target.Err = side.Target.Report(ctx, id)
		s.Machine.V, s.Machine.Err = side.Site.Machine(ctx, homeward.Ref{Native: string(it.ID())})
		all[side.Name] = s
	}
	return all
}

// essence is what matters of a record.
func essence(r recovery.Record) map[string]any {
	base := r.Base
	if base.Generation != r.Generation {
		base = base.Base(r.Generation)
	}
	e := map[string]any{"state": r.State, "runs at": r.RunsAt, "stands at": r.StandsAt, "generation": r.Generation,
		"base": base, "runs on": r.RunsOn, "refs": r.Refs, "paused": r.Paused, "list": r.List.Op, "unseen": r.Unseen, "test": r.Test != nil}
	if r.State == recovery.FailedOver {
		e["view"], e["point"], e["planned"] = r.View.Disks, r.Point.Position, r.Planned
	}
	return e
}

// memory are all records that were ever written down of an item.
type memory struct {
	*controllers
	past [][]byte
}

func (m *memory) save(it *recovery.Item) error {
	err := m.controllers.save(it)
	if n := len(m.past); err == nil && (n == 0 || string(m.past[n-1]) != string(m.saved)) {
		m.past = append(m.past, m.saved)
	}
	return err
}

func (m *memory) recall(data []byte) (r recovery.Record) {
	m.t.Helper()
	must(m.t, json.Unmarshal(data, &r))
	return r
}

// adopt makes of an old record that of now.
func (m *memory) adopt(ctx context.Context, w *world.World, old []byte, it *recovery.Item) recovery.Adoption {
	m.t.Helper()
	newest := w.Home.Newest(it.ID())
	if g := w.Away.Newest(it.ID()); g.Number > newest.Number {
		newest = g
	}
	found, err := recovery.Adopt(m.recall(old), seen(ctx, it), newest, false)
	if err != nil {
		now := it.Snapshot()
		was := m.recall(old)
		m.t.Fatalf("it is %s; from %s: %v", now.Words(), was.Words(), err)
	}
	return found
}

// load is an item of a record, in the hands of a new controller.
func (m *memory) load(r recovery.Record, deaths int) *recovery.Item {
	m.t.Helper()
	data, err := json.Marshal(r)
	must(m.t, err)
	m.saved = data
	it := m.next(deaths)
	it.Save = m.save
	return it
}

// walk is what may be done with an item that stands somewhere.
func walk(rng *rand.Rand, it *recovery.Item) (string, func(context.Context) error) {
	type move struct {
		name string
		do   func(context.Context) error
	}
	moves := map[recovery.State][]move{
		recovery.Protected: {
			{"fail over", func(ctx context.Context) error {
				_, err := it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: true})
				return err
			}},
			{"fail back", func(ctx context.Context) error { return it.FailOverPlanned(ctx, homeward.Position{}) }},
			{"pause", it.Pause},
		},
		recovery.FailedOver: {
			{"commit", it.Commit}, {"commit", it.Commit}, {"cancel", it.Cancel},
			{"change point", func(ctx context.Context) error { return it.ChangePoint(ctx, it.Point.Position) }},
		},
		recovery.Synchronizing: {
			{"await", func(ctx context.Context) error { _, err := it.AwaitReverse(ctx); return err }},
			{"fail over to the branch", func(ctx context.Context) error {
				list, err := it.Standby.Target.Points(ctx, homeward.ItemRequest{Item: it.ID()})
				for _, p := range slices.Backward(list.Points) {
					if slices.Contains(p.Pins, "branch:"+recovery.BranchName) {
						_, err := it.FailOverWith(ctx, recovery.FailOverRequest{Shutdown: true, Point: p.Position})
						return err
					}
				}
				return err
			}},
		},
		recovery.Committed: {{"reverse", func(ctx context.Context) error { _, err := it.Reverse(ctx); return err }}, {"reprotect", func(ctx context.Context) error { _, err := it.Reprotect(ctx); return err }}},
	}[it.State]
	if it.Paused {
		moves = []move{{"resume", it.Unpause}}
	}
	one := moves[rng.IntN(len(moves))]
	return one.name, one.do
}

// Whatever was done since a record was written down, it is found again from what both
// sides say; and from there the way goes on to where both are equal.
func TestAdopt_Walk(t *testing.T) {
	rng := powerloss.Rand(t)
	for range powerloss.Cases(2) {
		adoptWalk(t, rng)
	}
}

func adoptWalk(t *testing.T, rng *rand.Rand) {
	w := world.New(t, powerloss.Rand(t), world.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Second)
	defer cancel()
	must(t, w.AwaitAll(ctx))
	it := w.Items[0]
	m := &memory{controllers: &controllers{t: t, sides: [2]*recovery.Side{it.Running, it.Standby}, left: -1}}
	it.Save = m.save
	must(t, it.Protect(ctx))
	for range 12 {
		name, do := walk(rng, it)
		must(t, do(ctx))
		now := it.Snapshot()
		w.Note("after %s: %s", name, now.Words())
		want := essence(now)
		for _, old := range m.past {
			found := m.adopt(ctx, w, old, it)
			if given := now.State == recovery.FailedOver || now.State == recovery.Committed; given && len(now.Interrupted.Uncompared()) > 0 && found.Record.Interrupted == nil {
				t.Fatalf("after %s: what was not compared is forgotten", name)
			}
			if now.Strayed && !found.Record.Strayed { // found where it is not so, it costs a comparison, no more
				t.Fatalf("after %s: that its map is of another replica is forgotten", name)
			}
			if got := essence(found.Record); !reflect.DeepEqual(got, want) {
				was := m.recall(old)
				t.Fatalf("after %s, from %s:\nfound %+v\nit is %+v", name, was.Words(), got, want)
			}
		}
	}
	home(ctx, t, w, m.load(m.adopt(ctx, w, m.past[rng.IntN(len(m.past))], it).Record, -1))
}

// home takes an item on to where it is protected, proves it, and goes once round.
func home(ctx context.Context, t *testing.T, w *world.World, it *recovery.Item) {
	t.Helper()
	for moves := 0; moves < 8 || it.State != recovery.Protected; moves++ {
		must(t, finish(ctx, it))
		switch it.State {
		case recovery.Protected:
			if it.Paused {
				must(t, it.Unpause(ctx))
			}
			if m, err := it.Running.Site.Machine(ctx, it.Refs[it.Running.Name]); err == nil && m.Power == homeward.PowerOn {
				_, err := it.Resync(ctx)
				must(t, err)
				replicates(ctx, t, w, it)
			}
			must(t, it.FailOverPlanned(ctx, homeward.Position{}))
		case recovery.FailedOver:
			must(t, it.Commit(ctx))
		case recovery.Committed:
			_, err := it.Reprotect(ctx)
			must(t, err)
		}
	}
	replicates(ctx, t, w, it)
}

// finish calls the list again that was cut short.
func finish(ctx context.Context, it *recovery.Item) (err error) {
	if it.Paused && it.State == recovery.Synchronizing {
		if err := it.Unpause(ctx); err != nil {
			return err
		}
	}
	switch it.List.Op {
	case "protect":
		return it.Protect(ctx)
	case "fail over":
		return it.FailOver(ctx, it.List.Point)
	case "fail back":
		return it.FailOverPlanned(ctx, it.List.Point)
	case "change point", "cancel failover":
		return it.Cancel(ctx)
	case "commit":
		return it.Commit(ctx)
	case "reprotect":
		if it.State == recovery.Committed {
			_, err = it.Reverse(ctx)
		}
		if err == nil {
			_, err = it.AwaitReverse(ctx)
		}
	}
	return err
}

// A list is cut short anywhere, and its record lost: the one that is found from an
// older record says what is to be called again, and leads to where both sides are equal.
func TestAdopt_CutShort(t *testing.T) {
	rng := powerloss.Rand(t)
	for range powerloss.Cases(3) {
		w := world.New(t, powerloss.Rand(t), world.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 80*time.Second)
		must(t, w.AwaitAll(ctx))
		it := w.Items[0]
		m := &memory{controllers: &controllers{t: t, sides: [2]*recovery.Side{it.Running, it.Standby}, left: -1}}
		it.Save = m.save
		must(t, it.Protect(ctx))
		for range 6 {
			old := slices.Clone(m.past)
			m.left = rng.IntN(8)
			name, do := walk(rng, it)
			err := do(ctx)
			m.left = -1
			now := it.Snapshot()
			w.Note("%s, cut short: %v; it is %s", name, err, now.Words())
			found := m.adopt(ctx, w, old[rng.IntN(len(old))], it)
			w.Note("found %s", found.Found)
			it = m.load(found.Record, -1)
			must(t, finish(ctx, it))
		}
		home(ctx, t, w, it)
		cancel()
	}
}
