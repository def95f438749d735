package lifecycle_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// lists are what a job of an action may leave cut short.
var lists = map[vault.Action]string{
	vault.Enable: "protect", vault.Failover: "fail over", vault.FailbackAction: "fail back", vault.ChangePoint: "change point",
	vault.Commit: "commit", vault.CancelFailover: "cancel failover", vault.Reprotect: "reprotect", vault.Disable: "disable",
}

// seen gives facts what only looking tells: whatever chance says, or the best.
func seen(f lifecycle.Facts, truth func(name string) lifecycle.Truth, points int) lifecycle.Facts {
	if f.State == lifecycle.None {
		return f
	}
	f.Points = lifecycle.Count{N: points, Known: points >= 0}
	f.FirstPoint, f.Other, f.Machine, f.Committing = truth("first point"), truth("other"), truth("machine"), truth("committing")
	f.Foreign = truth("foreign")
	return f
}

func good(name string) lifecycle.Truth {
	return lifecycle.TruthOf(name != "committing" && name != "foreign")
}

// enabled are the facts of an item at the end of an enable.
func apply(f lifecycle.Facts, t lifecycle.Transition) lifecycle.Facts {
	if f.State == lifecycle.None {
		f.At, f.Leg, f.Test = lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone
		t.Test.Next = vault.TestNone
	}
	return f.After(t)
}

// TestWalk takes actions as chance has it, lets their jobs succeed or stop anywhere,
// and sees that the item always stands somewhere known, from where good facts and
// no force lead to Protected, or out.
func TestWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f lifecycle.Facts
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			truth := func(name string) lifecycle.Truth {
				return rapid.SampledFrom([]lifecycle.Truth{lifecycle.Yes, lifecycle.Yes, lifecycle.No, lifecycle.Unknown}).Draw(t, name)
			}
			f = seen(f, truth, rapid.IntRange(-1, 4).Draw(t, "points"))
			allowed, refused := lifecycle.Allowed(f)
			if len(allowed)+len(refused) != len(vault.Actions()) {
				t.Fatalf("%d allowed and %d refused of %d", len(allowed), len(refused), len(vault.Actions()))
			}
			if len(allowed) > 0 {
				f = step(t, f, rapid.SampledFrom(allowed).Draw(t, "action"))
			}
			if f.State != lifecycle.None && !slices.Contains(states, f.State) {
				t.Fatalf("the item stands in %q", f.State)
			}
			if path := wayOut(f); path == nil {
				t.Fatalf("no way out of %+v", f)
			}
		}
	})
}

func step(t *rapid.T, f lifecycle.Facts, a vault.Action) lifecycle.Facts {
	transition, no := lifecycle.Decide(f, a)
	if no != nil {
		t.Fatalf("%s is allowed and then refused: %s", a, no.Why)
	}
	switch {
	case a == vault.Pause || a == vault.Resume:
		f.Paused = a == vault.Pause
		return f
	case transition.Scenario == "" || transition.Title == "" || len(transition.Tasks) == 0:
		t.Fatalf("%s has no plan: %+v", a, transition)
	}
	ended := rapid.IntRange(0, len(transition.Tasks)).Draw(t, "tasks that end")
	if ended == len(transition.Tasks) {
		return apply(f, transition)
	}
	rows := make([]vault.Task, len(transition.Tasks))
	for i, task := range transition.Tasks {
		rows[i] = vault.Task{Name: task.Name, State: vault.TaskNotStarted}
		if i < ended {
			rows[i].State = vault.TaskSucceeded
		}
	}
	if f.State == lifecycle.None {
		f.At, f.Leg, f.Test = lifecycle.AtOriginal, lifecycle.Forward, vault.TestNone
		transition.Test.Failed = vault.TestNone
	}
	f.State, f.Test = transition.Stopped(rows), transition.Test.Failed
	if transition.Turns && f.State == vault.Synchronizing {
		f.Leg = map[lifecycle.Leg]lifecycle.Leg{lifecycle.Forward: lifecycle.Reverse, lifecycle.Reverse: lifecycle.Forward}[f.Leg]
	}
	if list := lists[a]; list != "" && ended > 0 && f.State != vault.Migrated {
		f.Unfinished = list
	}
	return f
}

// wayOut finds actions that lead to Protected without a test open, or out.
func wayOut(f lifecycle.Facts) []vault.Action {
	type place struct {
		f    lifecycle.Facts
		path []vault.Action
	}
	f = seen(f, good, 3)
	f.Force = false
	queue, met := []place{{f, []vault.Action{}}}, map[lifecycle.Facts]bool{f: true}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		if p.f.State == lifecycle.None || p.f.State == vault.Protected && p.f.Test == vault.TestNone && p.f.Unfinished == "" {
			return p.path
		}
		allowed, _ := lifecycle.Allowed(p.f)
		for _, a := range allowed {
			t, _ := lifecycle.Decide(p.f, a)
			next := seen(apply(p.f, t), good, 3)
			if a == vault.Pause || a == vault.Resume {
				next = p.f
				next.Paused = a == vault.Pause
			}
			if !met[next] {
				met[next] = true
				queue = append(queue, place{next, append(slices.Clone(p.path), a)})
			}
		}
	}
	return nil
}

// TestRoundTrip is the way there and back, by the book.
func TestRoundTrip(t *testing.T) {
	f := lifecycle.Facts{}
	for _, want := range []struct {
		action vault.Action
		state  vault.State
		at     lifecycle.End
	}{
		{vault.Enable, vault.Synchronizing, lifecycle.AtOriginal},
		{"first point", vault.Protected, lifecycle.AtOriginal},
		{vault.TestFailover, vault.Protected, lifecycle.AtOriginal},
		{vault.CleanUpTest, vault.Protected, lifecycle.AtOriginal},
		{vault.Failover, vault.FailedOver, lifecycle.AtRecovery},
		{vault.ChangePoint, vault.FailedOver, lifecycle.AtRecovery},
		{vault.Commit, vault.Committed, lifecycle.AtRecovery},
		{vault.Reprotect, vault.Synchronizing, lifecycle.AtRecovery},
		{"first point", vault.Protected, lifecycle.AtRecovery},
		{vault.FailbackAction, vault.FailedOver, lifecycle.AtOriginal},
		{vault.CancelFailover, vault.Protected, lifecycle.AtRecovery},
		{vault.FailbackAction, vault.FailedOver, lifecycle.AtOriginal},
		{vault.Commit, vault.Committed, lifecycle.AtOriginal},
		{vault.Reprotect, vault.Synchronizing, lifecycle.AtOriginal},
		{"first point", vault.Protected, lifecycle.AtOriginal},
		{vault.Failover, vault.FailedOver, lifecycle.AtRecovery},
		{vault.CompleteMigration, vault.Migrated, lifecycle.AtRecovery},
		{vault.Disable, lifecycle.None, ""},
	} {
		if want.action == "first point" {
			f = f.After(lifecycle.FirstPoint(f))
		} else {
			transition, no := lifecycle.Decide(f, want.action)
			if no != nil {
				t.Fatalf("%s is refused: %s (%s)", want.action, no.Why, no.Remedy)
			}
			f = apply(f, transition)
		}
		if f.State != want.state || f.At != want.at {
			t.Fatalf("after %s the item is %s at %s, not %s at %s", want.action, f.State, f.At, want.state, want.at)
		}
		f = seen(f, good, 3)
	}
}
