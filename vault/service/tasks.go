package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/job"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// The scenarios that no action of the lifecycle has.
const (
	scenarioProve       = "ProveItem"
	scenarioReassociate = "Reassociate"
	scenarioReplica     = "ReassociateReplica" // of one item
)

// tasks are what the steps of the lifecycle's actions do.
func tasks() map[string]task {
	return map[string]task{
		lifecycle.EnablePreflight:  enablePreflight,
		lifecycle.CreateTarget:     createTarget,
		lifecycle.EnableProtection: enableProtection,
		lifecycle.StartInitial:     startInitial,
		lifecycle.UpdateProviders:  updateProviders,

		lifecycle.TestPreflight:  testPreflight,
		lifecycle.CreateTestVM:   createTest,
		lifecycle.PrepareTestVM:  prepareTest,
		lifecycle.StartTestVM:    startTest,
		lifecycle.CleanPreflight: standing(),
		lifecycle.EndTest:        endTest,
		lifecycle.CleanUpTestVM:  cleanUpTest,

		lifecycle.FailPreflight:   failPreflight,
		lifecycle.ShutdownSource:  shutdownSource,
		lifecycle.PrepareFailover: shipLastWrites,
		lifecycle.StartFailover:   startFailover,
		lifecycle.StartReplicaVM:  awaitBoot,
		lifecycle.BackPreflight:   backPreflight,
		lifecycle.ShutdownActive:  shutdownActive,
		lifecycle.PrepareFailback: drainActive,

		lifecycle.ChangePreflight:  failPreflight,
		lifecycle.CancelPreflight:  cancelPreflight,
		lifecycle.CancelTask:       cancelFailover,
		lifecycle.CommitPreflight:  standing(),
		lifecycle.CommitTask:       commit,
		lifecycle.RemoveRecoveryVM: removeRecovery,

		lifecycle.ReprotectPreflight: reprotectPreflight,
		lifecycle.CommitFailover:     commitFirst,
		lifecycle.DiscoverReplica:    discoverReplica,
		lifecycle.Requirements:       requirements,
		lifecycle.ProtectReplica:     protectReplica,

		lifecycle.ResyncPreflight:   standing(),
		lifecycle.ResyncTask:        resync,
		lifecycle.DisablePreflight:  standing(),
		lifecycle.DisableTask:       disable,
		lifecycle.RemoveReplicas:    removeReplicas,
		lifecycle.MigratePreflight:  standing(),
		lifecycle.CompleteMigration: migrate,

		lifecycle.AdoptPreflight: adoptPreflight,
		lifecycle.AdoptTask:      adopt,

		lifecycle.RemoveReplacedDisks: removeReplaced,
	}
}

// standing asks the nodes that the action depends on: one that is away is found
// before anything is changed.
func standing() task {
	return func(ctx context.Context, w *work) error {
		h := w.monitor.ask(ctx, w.stored)
		if h.target != nil && homeward.KindOf(h.target) != homeward.NotFound && !w.asked.Input.Force {
			return h.target
		}
		return nil
	}
}

// definitions are the jobs of all actions, and those of the vault itself.
func (s *workshop) definitions() []job.Definition {
	var all []job.Definition
	for _, a := range vault.Actions() {
		if d, ok := s.definition(a); ok {
			all = append(all, d)
		}
	}
	return append(all, s.firstPoint(), s.proving(), s.reassociating(), s.leadingReplica())
}

// definition is the job of an action; false: the action needs none.
func (s *workshop) definition(a vault.Action) (job.Definition, bool) {
	scenario := lifecycle.ScenarioOf(a)
	return job.Definition{Scenario: scenario, Title: string(a), Tasks: func(_ context.Context, j vault.Job) ([]job.TaskDef, error) {
		asked, err := assignmentOf(j)
		if err != nil {
			return nil, err
		}
		t, refusal := lifecycle.Decide(asked.Facts, j.Action)
		if refusal != nil {
			return nil, homeward.Errorf(string(j.Action), homeward.Conflict, "item "+string(j.Item), refusal.Remedy, "%s", refusal.Why)
		}
		return s.taskDefs(t), nil
	}}, scenario != ""
}

func (s *workshop) taskDefs(t lifecycle.Transition) []job.TaskDef {
	known := tasks()
	var defs []job.TaskDef
	for _, task := range t.Tasks {
		def := job.TaskDef{Name: task.Name, Title: task.Title, Whole: task.Whole}
		switch task.Name {
		case lifecycle.AwaitFirstPoint:
			def.Do, def.Tries = s.patiently(awaitFirstPoint), untilCancelled
		case lifecycle.StartReplicaVM, lifecycle.StartTestVM: // a person may know better than the probe
			def.Do, def.Skippable = s.on(known[task.Name]), true
		case lifecycle.ChangePointTask:
			def.Do, def.Done = s.on(changePoint), s.probe(pointChanged)
		default:
			def.Do = s.on(known[task.Name])
		}
		defs = append(defs, def)
	}
	return defs
}

// untilCancelled lets a task that waits for nodes try as long as it takes.
const untilCancelled = 1 << 30

// firstPoint is the job that an enable or a reprotect leaves behind: it ends when the
// first recovery point stands.
func (s *workshop) firstPoint() job.Definition {
	return job.Definition{Scenario: lifecycle.ScenarioFirstPoint, Title: "Initial synchronization", Tasks: func(_ context.Context, j vault.Job) ([]job.TaskDef, error) {
		asked, err := assignmentOf(j)
		if err != nil {
			return nil, err
		}
		return s.taskDefs(lifecycle.FirstPoint(asked.Facts)), nil
	}}
}
