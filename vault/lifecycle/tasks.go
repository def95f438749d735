package lifecycle

import "github.com/homeward-dr/homeward/vault"

// Task is one step of an action's job, under the name the field knows it by where
// it has one.
type Task struct {
	Name  string
	Title string
	Then  vault.State // the item's state from the end of this task on; None: unchanged
	// Whole: its job cannot be cancelled while the task runs. Cut short, it would leave the
	// machine between two sites, or a copy half made the disk of a machine: "do not cancel
	// a failover in progress, it stops but the VM will not replicate any more" (asr.md 2.3).
	// Once it has ended, what comes next is open, and CancelFailover undoes a failover.
	Whole bool
}

// The tasks that definitions refer to by name.
const (
	EnablePreflight  = "EnableProtectionPreflightChecksTask"
	CreateTarget     = "CreateProtectionTargetTask"
	EnableProtection = "EnableProtectionTask"
	StartInitial     = "StartInitialReplicationTask"
	UpdateProviders  = "UpdateDraStateTask"

	AwaitFirstPoint     = "AwaitFirstRecoveryPointTask"
	RemoveReplacedDisks = "RemoveReplacedDisksTask"

	TestPreflight   = "TestFailoverPreflightChecksTask"
	CreateTestVM    = "CreateTestVirtualMachineTask"
	PrepareTestVM   = "PrepareTestVirtualMachineTask"
	StartTestVM     = "StartTestVirtualMachineTask"
	CleanPreflight  = "TestFailoverCleanupPreflightChecksTask"
	EndTest         = "EndTestFailoverTask"
	CleanUpTestVM   = "CleanupTestProtectedEntitiesTask"
	FailPreflight   = "UnplannedFailoverPreflightChecksTask"
	ShutdownSource  = "ShutdownVmOnPrimaryForUFO"
	PrepareFailover = "PrepareForUnPlannedFailoverTask"
	StartFailover   = "FailoverTask"
	StartReplicaVM  = "StartVmOnSecondary"

	BackPreflight   = "PlannedFailoverPreflightChecksTask"
	ShutdownActive  = "ShutdownVmOnPrimaryForPFO"
	PrepareFailback = "PrepareForPlannedFailoverTask"

	ChangePreflight  = "ChangePitPreflightChecksTask"
	ChangePointTask  = "ChangePitTask"
	CancelPreflight  = "CancelFailoverPreflightChecksTask"
	CancelTask       = "CancelFailoverTask"
	CommitPreflight  = "VmCommitPrerequisitesCheck"
	CommitTask       = "VmCommit"
	RemoveRecoveryVM = "RemoveRecoveryVirtualMachineTask"

	ReprotectPreflight = "SwitchReplicationGroupProtectionPreflightTask"
	CommitFailover     = "CommitFailoverTask"
	DiscoverReplica    = "DiscoverReplicaTask"
	Requirements       = "GetSwitchProtectionRequirementsTask"
	ProtectReplica     = "ProtectReplicaTask"

	ResyncPreflight   = "ResyncPreflightChecksTask"
	ResyncTask        = "ResyncReplicationTask"
	DisablePreflight  = "DisableProtectionPreflightChecksTask"
	DisableTask       = "DisableProtectionTask"
	RemoveReplicas    = "RemoveReplicasTask"
	AdoptPreflight    = "AdoptPreflightChecksTask"
	AdoptTask         = "AdoptStateTask"
	MigratePreflight  = "CompleteMigrationPreflightChecksTask"
	CompleteMigration = "CompleteMigrationTask"
)

func enableTasks(Facts) []Task {
	return []Task{
		{Name: EnablePreflight, Title: "Prerequisites check for enabling protection"},
		{Name: CreateTarget, Title: "Preparing target"},
		{Name: EnableProtection, Title: "Enable replication"},
		{Name: StartInitial, Title: "Starting initial replication", Then: vault.Synchronizing},
		{Name: UpdateProviders, Title: "Updating the provider states"},
	}
}

func testTasks(Facts) []Task {
	return []Task{
		{Name: TestPreflight, Title: "Prerequisites check for test failover"},
		{Name: CreateTestVM, Title: "Create test virtual machine"},
		{Name: PrepareTestVM, Title: "Preparing the virtual machine"},
		{Name: StartTestVM, Title: "Start the virtual machine"},
	}
}

func cleanUpTasks(Facts) []Task {
	return []Task{
		{Name: CleanPreflight, Title: "Prerequisites check for test failover clean-up"},
		{Name: EndTest, Title: "Ending test failover"},
		{Name: CleanUpTestVM, Title: "Clean up the test virtual machine"},
	}
}

func failoverTasks(Facts) []Task {
	return []Task{
		{Name: FailPreflight, Title: "Prerequisites check for failover"},
		{Name: ShutdownSource, Title: "Shut down the virtual machine"},
		{Name: PrepareFailover, Title: "Synchronizing the latest changes"},
		{Name: StartFailover, Title: "Start failover", Whole: true},
		{Name: StartReplicaVM, Title: "Start the replica virtual machine"},
	}
}

func failbackTasks(Facts) []Task {
	return []Task{
		{Name: BackPreflight, Title: "Prerequisites check for failback"},
		{Name: ShutdownActive, Title: "Shut down the virtual machine"},
		{Name: PrepareFailback, Title: "Synchronizing the latest changes"},
		{Name: StartFailover, Title: "Start failover", Whole: true},
		{Name: StartReplicaVM, Title: "Start the replica virtual machine"},
	}
}

func changePointTasks(Facts) []Task {
	return []Task{
		{Name: ChangePreflight, Title: "Prerequisite check"},
		{Name: ChangePointTask, Title: "Changing the recovery point", Whole: true},
		{Name: StartReplicaVM, Title: "Start the replica virtual machine"},
	}
}

func cancelTasks(Facts) []Task {
	return []Task{
		{Name: CancelPreflight, Title: "Prerequisite check"},
		{Name: CancelTask, Title: "Cancelling the failover", Whole: true},
	}
}

// commitTasks: the commit of a failover removes nothing; that of a failback
// removes the recovery machine, never its disks (R118).
func commitTasks(f Facts) []Task {
	tasks := []Task{
		{Name: CommitPreflight, Title: "Prerequisite check"},
		{Name: CommitTask, Title: "Commit", Then: vault.Committed, Whole: true},
	}
	return append(tasks, removal(f)...)
}

func removal(f Facts) []Task {
	if f.Leg != Reverse {
		return nil
	}
	return []Task{{Name: RemoveRecoveryVM, Title: "Removing the recovery virtual machine"}}
}

// reprotectTasks show the commit even where it is skipped, as the field does.
func reprotectTasks(f Facts) []Task {
	tasks := []Task{
		{Name: ReprotectPreflight, Title: "Prerequisite check"},
		{Name: CommitFailover, Title: "Committing failover", Then: vault.Committed, Whole: true},
	}
	if f.State == vault.FailedOver {
		tasks = append(tasks, removal(f)...)
	}
	return append(tasks,
		Task{Name: DiscoverReplica, Title: "Discovering replica virtual machine"},
		Task{Name: Requirements, Title: "Getting reprotection requirements"},
		Task{Name: ProtectReplica, Title: "Reprotecting virtual machine", Then: vault.Synchronizing},
	)
}

func resyncTasks(f Facts) []Task {
	tasks := []Task{
		{Name: ResyncPreflight, Title: "Prerequisite check"},
		{Name: ResyncTask, Title: "Resynchronizing"},
	}
	if f.State == vault.Synchronizing {
		tasks = append(tasks, firstPointTasks(f)...)
	}
	return tasks
}

func firstPointTasks(f Facts) []Task {
	tasks := []Task{{Name: AwaitFirstPoint, Title: "Synchronizing until the first recovery point stands", Then: vault.Protected}}
	if f.Doomed {
		tasks = append(tasks, Task{Name: RemoveReplacedDisks, Title: "Removing the replaced disks"})
	}
	return tasks
}

// disableTasks commit first what runs on a view that a disable would take away.
func disableTasks(f Facts) []Task {
	tasks := []Task{{Name: DisablePreflight, Title: "Prerequisite check"}}
	if f.State == vault.FailedOver {
		tasks = append(tasks, Task{Name: CommitFailover, Title: "Committing failover", Whole: true})
	}
	return append(tasks,
		Task{Name: DisableTask, Title: "Disabling replication"},
		Task{Name: RemoveReplicas, Title: "Removing replicas and recovery points"},
	)
}

func migrateTasks(Facts) []Task {
	return []Task{
		{Name: MigratePreflight, Title: "Prerequisite check"},
		{Name: CommitFailover, Title: "Committing failover", Then: vault.Committed, Whole: true},
		{Name: CompleteMigration, Title: "Completing migration", Then: vault.Migrated, Whole: true},
	}
}

func adoptTasks(Facts) []Task {
	return []Task{
		{Name: AdoptPreflight, Title: "Asking the nodes and sites of both sides"},
		{Name: AdoptTask, Title: "Adopting the state found"},
	}
}
