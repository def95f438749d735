package lifecycle

import (
	"slices"

	"github.com/homeward-dr/homeward/vault"
)

// Decide tells what an action does to an item, or why it is not possible now, and
// what would make it possible. The transition means nothing beside a refusal.
func Decide(f Facts, a vault.Action) (Transition, *vault.Refusal) {
	r, ok := rowOf(a)
	if !ok {
		return Transition{}, &vault.Refusal{Action: a, Why: "there is no such action", Remedy: "ask for one of the actions that the item lists"}
	}
	for _, refusal := range []*vault.Refusal{r.contradicted(f), r.busy(f), r.migrated(f), r.cutShort(f), r.testing(f), r.elsewhere(f)} {
		if refusal != nil {
			refusal.Action = a
			return Transition{}, refusal
		}
	}
	for _, need := range r.needs {
		if refusal := need(f); refusal != nil {
			refusal.Action = a
			return Transition{}, refusal
		}
	}
	return r.transition(f), nil
}

// Allowed tells of every action, in the order of vault.Actions, either that it is
// possible now or why it is not.
func Allowed(f Facts) ([]vault.Action, []vault.Refusal) {
	var allowed []vault.Action
	var refused []vault.Refusal
	for _, a := range vault.Actions() {
		if _, no := Decide(f, a); no != nil {
			refused = append(refused, *no)
		} else {
			allowed = append(allowed, a)
		}
	}
	return allowed, refused
}

// FirstPoint is the transition of the child job that an enable or a reprotect
// leaves behind (T2, T11): it ends with the first recovery point.
func FirstPoint(f Facts) Transition {
	return Transition{
		Phases:   Phases[vault.State]{Begun: vault.Synchronizing, Next: vault.Protected, Failed: vault.Synchronizing},
		Test:     Phases[vault.TestState]{Begun: f.Test, Next: f.Test, Failed: f.Test},
		Scenario: ScenarioFirstPoint, Title: "Initial synchronization", Tasks: firstPointTasks(f),
	}
}

func (r row) transition(f Facts) Transition {
	next := r.next
	if r.keep {
		next = f.State
	}
	t := Transition{
		Phases:   Phases[vault.State]{Begun: f.State, Next: next, Failed: f.State},
		Test:     Phases[vault.TestState]{Begun: f.Test, Next: f.Test, Failed: f.Test},
		Scenario: r.scenario, Title: r.title, Turns: r.turns, Adopts: r.adopts,
		Moves: r.moves && next != f.State,
	}
	if r.tasks != nil {
		t.Tasks = r.tasks(f)
	}
	switch r.action {
	case vault.CancelFailover: // back to what it gave up
		if f.Interrupted {
			t.Next = vault.Synchronizing
			t.Moves = t.Next != f.State
		}
	case vault.Enable:
		t.Begun, t.Failed = vault.Enabling, vault.Enabling
	case vault.Disable:
		t.Begun, t.Failed = vault.Disabling, vault.Disabling
		t.Test.Next = vault.TestNone
	case vault.TestFailover: // one that failed may have left something behind
		t.Test = Phases[vault.TestState]{Begun: vault.TestRunning, Next: vault.TestOpen, Failed: vault.TestClosing}
	case vault.Adopt: // the task that adopts says
		t.Test = Phases[vault.TestState]{}
	case vault.CleanUpTest:
		t.Test = Phases[vault.TestState]{Begun: vault.TestClosing, Next: vault.TestNone, Failed: vault.TestClosing}
	}
	return t
}

// contradicted leaves of a record that cannot be true only the way out.
func (r row) contradicted(f Facts) *vault.Refusal {
	wrong := f.standing()
	if wrong == "" || r.action == vault.Disable || r.action == vault.Adopt {
		return nil
	}
	return refuse("", "adopt the state that its nodes report; disable it and enable it anew if there is none", wrong)
}

// busy: one thing at a time. Replication may be paused while it is what is waited for,
// and an older point is not kept waiting for the first one of a side that may be lost.
func (r row) busy(f Facts) *vault.Refusal {
	if f.Job == "" {
		return nil
	}
	syncing := f.JobScenario == ScenarioFirstPoint || f.JobScenario == ScenarioResync
	if syncing && (r.action == vault.Pause || r.action == vault.Resume) {
		return nil
	}
	no := refuse("", "wait until it has ended, or cancel it", "another job works on the item: "+f.JobScenario)
	if syncing && f.State == vault.Synchronizing && f.Unfinished == opReprotect && r.leg == f.Leg && (r.action == vault.Failover || r.action == vault.FailbackAction) {
		if f.Older {
			return nil
		}
		no = olderPoint(f)
	}
	no.Job = f.Job
	return no
}

func (r row) migrated(f Facts) *vault.Refusal {
	if f.State != vault.Migrated || r.action == vault.Disable {
		return nil
	}
	return refuse("R25", "disable it; to protect the machine again, enable it where it runs now", "its migration is complete: there is no way back")
}

// cutShort: a list that was cut short is ended or given up before anything else but
// what a test failover left, which is no part of any list.
func (r row) cutShort(f Facts) *vault.Refusal {
	if f.Unfinished == "" || r.action == vault.CleanUpTest || r.action == vault.Adopt || r.action == vault.Disable && f.Force || slices.Contains(finishing(f.Unfinished, f.Leg), r.action) {
		return nil
	}
	remedy := "disable it with force if nothing else helps"
	if may := finishing(f.Unfinished, f.Leg); len(may) > 0 {
		remedy = "do this first, until it succeeds: " + string(may[0])
	}
	if slices.Contains(finishing(f.Unfinished, f.Leg), vault.CancelFailover) && f.Unfinished != opCancel {
		remedy += ", or " + string(vault.CancelFailover)
	}
	return refuse("", remedy, "an earlier action is unfinished: "+f.Unfinished)
}

func (r row) testing(f Facts) *vault.Refusal {
	if !hasTest(f) || r.ifOpen || r.action == vault.Disable && (f.Force || f.State == vault.Disabling) {
		return nil
	}
	return refuse("", "clean up the test failover first", "a test failover is open")
}

// elsewhere refuses what is not possible in this state or direction.
func (r row) elsewhere(f Facts) *vault.Refusal {
	resumed := slices.Contains(r.resumes, f.Unfinished) && f.State == vault.FailedOver
	if !slices.Contains(r.from, f.State) && !resumed {
		why, now := describe(f)
		return refuse(r.lacking.rule, join(r.lacking.remedy, now), why)
	}
	if r.leg == "" || f.Leg == r.leg {
		return nil
	}
	switch r.action {
	case vault.Failover:
		return refuse("R2", "fail back instead", "it is protected from its recovery site to its original one")
	case vault.FailbackAction:
		return refuse("R3", "fail over instead", "it is protected from its original site to its recovery one")
	}
	return refuse("R25", "disable it instead", "the machine runs at its original site")
}

func join(a, b string) string {
	if a != "" && b != "" {
		return a + "; now: " + b
	}
	return a + b
}

// describe says in words where an item stands, and what usually comes next.
func describe(f Facts) (why, next string) {
	site := string(f.At) + " site"
	switch f.State {
	case None:
		return "the machine is not protected", "enable replication"
	case vault.Enabling:
		return "replication is not enabled yet", "enable it again, or disable it"
	case vault.Synchronizing:
		if f.Job == "" { // whoever waited for it was cancelled
			return "its first recovery point does not stand yet", "resynchronize: no job waits for it"
		}
		return "its first recovery point does not stand yet", "wait for it"
	case vault.Protected:
		return "it is protected and runs at its " + site, ""
	case vault.FailedOver:
		return "it is failed over to its " + site + " and not committed", "commit it, or cancel the failover"
	case vault.Committed:
		return "it runs at its " + site + ", unprotected", "reprotect it"
	}
	return "it is being disabled", "disable it again until that succeeds"
}

// ScenarioOf is the scenario of an action's job; empty: it is done at once, without
// a job.
func ScenarioOf(a vault.Action) string {
	r, _ := rowOf(a)
	return r.scenario
}
