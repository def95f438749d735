package lifecycle

import "github.com/homeward-dr/homeward/vault"

// Phases are what something is when a job begins, when it has succeeded, and when
// it failed or was cancelled.
type Phases[T any] struct {
	Begun  T
	Next   T
	Failed T
}

// Transition is what an action does to an item.
type Transition struct {
	Phases[vault.State]
	Test     Phases[vault.TestState]
	Scenario string // empty: done at once, without a job
	Title    string
	Tasks    []Task
	Moves    bool // success leaves the machine running at the other site
	Turns    bool // success leaves the other leg in force, from the task that makes it Synchronizing on
	Adopts   bool // state, place, leg and test become what was found
}

// Stopped is the item's state when the job failed or was cancelled: what the
// tasks that had ended made of it.
func (t Transition) Stopped(tasks []vault.Task) vault.State {
	state := t.Failed
	for _, task := range t.Tasks {
		if task.Then == None {
			continue
		}
		for _, row := range tasks {
			if row.Name == task.Name && row.State == vault.TaskSucceeded {
				state = task.Then
			}
		}
	}
	return state
}

// The scenarios that are referred to elsewhere.
const (
	ScenarioEnable     = "EnableDr"
	ScenarioFirstPoint = "IrCompletion"
	ScenarioResync     = "ResyncReplication"
)

// row is one action of the table.
type row struct {
	action   vault.Action
	scenario string
	title    string
	from     []vault.State // where it is possible
	resumes  []string      // lists that may be gone on with once their point is served, too
	leg      Leg           // in which direction; empty: both
	next     vault.State   // after success; not read where keep is set
	keep     bool          // the state stays
	moves    bool          // the machine, unless the state stays
	turns    bool          // the leg in force
	adopts   bool          // whatever state, place and leg the nodes report
	tasks    func(Facts) []Task
	needs    []check // in the order in which they are told
	lacking  hint    // what to do where the state is another one, unless the state says more
	ifOpen   bool    // possible while a test failover is open
}

// hint is what a refusal advises.
type hint struct {
	remedy string
	rule   string
}

// standings are the states an item can be in.
func standings() []vault.State {
	return []vault.State{vault.Enabling, vault.Synchronizing, vault.Protected, vault.FailedOver, vault.Committed, vault.Disabling, vault.Migrated}
}

// rows is the table, in the order of vault.Actions. T1 to T15 are its base, the
// transitions of asr.md 2.7.
func rows() []row {
	return []row{
		{action: vault.Enable, scenario: ScenarioEnable, title: "Enable replication", // T1, T2
			from: []vault.State{None, vault.Enabling}, next: vault.Synchronizing, tasks: enableTasks,
			lacking: hint{remedy: "it is replicated already: disable it first to begin anew"}},
		{action: vault.TestFailover, scenario: "TestFailover", title: "Test failover", // T3
			from: []vault.State{vault.Protected}, keep: true, tasks: testTasks, needs: []check{single, pointsKnown, connected("", "R7")}},
		{action: vault.CleanUpTest, scenario: "TestFailoverCleanup", title: "Test failover cleanup", // T4
			from: standings(), keep: true, tasks: cleanUpTasks, needs: []check{testOpen}, ifOpen: true},
		{action: vault.Failover, scenario: "UnplannedFailover", title: "Failover", // T5, T6; a disaster does not wait for a clean-up
			from: []vault.State{vault.Protected, vault.Synchronizing}, resumes: []string{opFailOver}, leg: Forward, next: vault.FailedOver, moves: true, tasks: failoverTasks, ifOpen: true,
			needs: []check{single, olderPoint, pointsKnown, unlessServed(connected("", "R7"))}},
		{action: vault.ChangePoint, scenario: "ChangePit", title: "Change recovery point", // T7
			from: []vault.State{vault.FailedOver}, next: vault.FailedOver, tasks: changePointTasks, needs: []check{notCommitting, anotherPoint},
			lacking: hint{remedy: "a point is chosen between failover and commit"}},
		{action: vault.Commit, scenario: "CommitFailover", title: "Commit", // T9
			from: []vault.State{vault.FailedOver}, next: vault.Committed, tasks: commitTasks,
			lacking: hint{remedy: "there is no failover to commit"}},
		{action: vault.Reprotect, scenario: "SwitchReplicationGroupProtection", title: "Reprotect", // T10, T13
			from: []vault.State{vault.Committed, vault.FailedOver}, next: vault.Synchronizing, turns: true, tasks: reprotectTasks,
			needs:   []check{single, connected("", "R7"), machineThere},
			lacking: hint{remedy: "reprotect follows a failover or a failback, after its commit", rule: "R136"}},
		{action: vault.Resync, scenario: ScenarioResync, title: "Resynchronize", // T14
			from: []vault.State{vault.Protected, vault.Synchronizing}, next: vault.Protected, tasks: resyncTasks, needs: []check{notPaused}},
		{action: vault.FailbackAction, scenario: "PlannedFailover", title: "Failback", // T12
			from: []vault.State{vault.Protected, vault.Synchronizing}, resumes: []string{opFailBack, opFailOver}, leg: Reverse, next: vault.FailedOver, moves: true, tasks: failbackTasks,
			needs:   []check{single, olderPoint, unlessServed(firstPoint), shipping, unlessServed(connected("", "R17"))},
			lacking: hint{remedy: "failback follows a reprotect that is complete", rule: "R3"}},
		{action: vault.CancelFailover, scenario: "CancelFailover", title: "Cancel failover", // T8
			from: []vault.State{vault.FailedOver, vault.Protected, vault.Synchronizing}, next: vault.Protected, moves: true, tasks: cancelTasks,
			needs:   []check{begunFailover, notCommitting, connected(vault.FailedOver, "R7")},
			lacking: hint{remedy: "a failover or failback can be cancelled until it is committed"}},
		{action: vault.Disable, scenario: "DisableDr", title: "Disable replication", // T15
			from: standings(), next: None, tasks: disableTasks, needs: []check{nothingOlder}},
		{action: vault.CompleteMigration, scenario: "CompleteMigration", title: "Complete migration",
			from: []vault.State{vault.Committed, vault.FailedOver}, leg: Forward, next: vault.Migrated, tasks: migrateTasks, needs: []check{single},
			lacking: hint{remedy: "fail over first: a migration ends at the recovery site"}},
		{action: vault.Pause, title: "Pause replication",
			from: []vault.State{vault.Protected, vault.Synchronizing}, keep: true, needs: []check{notPaused}, ifOpen: true},
		{action: vault.Resume, title: "Resume replication",
			from: []vault.State{vault.Protected, vault.Synchronizing}, keep: true, needs: []check{paused}, ifOpen: true},
		{action: vault.Adopt, scenario: "AdoptItem", title: "Adopt the state found",
			from: moved(), keep: true, adopts: true, tasks: adoptTasks, needs: []check{foreign}, ifOpen: true},
	}
}

// moved are the states from which an item may be found elsewhere.
func moved() []vault.State {
	return []vault.State{vault.Enabling, vault.Synchronizing, vault.Protected, vault.FailedOver, vault.Committed}
}

func rowOf(a vault.Action) (row, bool) {
	for _, r := range rows() {
		if r.action == a {
			return r, true
		}
	}
	return row{}, false
}

// What recovery.Unfinished.Op may name.
const (
	opProtect     = "protect"
	opFailOver    = "fail over"
	opFailBack    = "fail back"
	opChangePoint = "change point"
	opCommit      = "commit"
	opCancel      = "cancel failover"
	opReprotect   = "reprotect"
	opRelocate    = "relocate" // a reprotect to the alternate location
	opDisable     = "disable"
	// opReassociate leads the replica to another master target; the old one has its points
	// until the new one has its first, unless it is Synchronizing.
	opReassociate = "reassociate"
)

// finishing says which actions may follow a list that was cut short: those that
// go on with it, and those that give it up. A list that this version does not know
// has none. A failback that goes on without its source is a failover to recovery.
func finishing(op string, leg Leg) []vault.Action {
	switch op {
	case opProtect:
		return []vault.Action{vault.Enable, vault.Resync, vault.Disable, vault.Pause, vault.Resume}
	case opFailOver:
		if leg == Reverse {
			return []vault.Action{vault.FailbackAction, vault.CancelFailover}
		}
		return []vault.Action{vault.Failover, vault.CancelFailover}
	case opFailBack:
		return []vault.Action{vault.FailbackAction, vault.CancelFailover}
	case opChangePoint:
		return []vault.Action{vault.ChangePoint, vault.CancelFailover}
	case opCommit:
		return []vault.Action{vault.Commit, vault.Reprotect, vault.CompleteMigration, vault.Disable}
	case opCancel:
		return []vault.Action{vault.CancelFailover}
	case opReprotect:
		return []vault.Action{vault.Reprotect, vault.Resync, vault.Failover, vault.FailbackAction, vault.Disable, vault.Pause, vault.Resume}
	case opRelocate: // to disks that hold nothing older
		return []vault.Action{vault.Reprotect, vault.Resync, vault.Disable, vault.Pause, vault.Resume}
	case opDisable:
		return []vault.Action{vault.Disable}
	case opReassociate:
		return []vault.Action{vault.Resync, vault.Failover, vault.FailbackAction, vault.Disable}
	}
	return nil
}
