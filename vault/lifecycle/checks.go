package lifecycle

import "github.com/homeward-dr/homeward/vault"

// check refuses an action for a fact; nil: it does not stand in the way.
type check func(f Facts) *vault.Refusal

func refuse(rule, remedy, why string) *vault.Refusal {
	return &vault.Refusal{Why: why, Remedy: remedy, Rule: rule}
}

// single refuses what a group's members do together (R32).
func single(f Facts) *vault.Refusal {
	if f.Group == "" || f.Plan {
		return nil
	}
	return refuse("R32", "do it with a recovery plan, for all of its members", "the item recovers together with the group "+f.Group)
}

func pointsKnown(f Facts) *vault.Refusal {
	switch {
	case !f.Points.Known:
		return refuse("", "see why the master target of the side that stands by does not answer", "its recovery points are not known")
	case f.Points.N < 1:
		return refuse("", "wait for the first recovery point, or resynchronize", "it has no recovery point")
	}
	return nil
}

func anotherPoint(f Facts) *vault.Refusal {
	switch {
	case !f.Points.Known:
		return refuse("", "see why the master target that serves the machine does not answer", "its recovery points are not known")
	case f.Points.N < 2:
		return refuse("", "commit it, or cancel the failover", "there is no other recovery point")
	}
	return nil
}

// firstPoint: "may be started only when reprotect is complete" (R3).
func firstPoint(f Facts) *vault.Refusal {
	if f.State == vault.Synchronizing { // see olderPoint
		return nil
	}
	switch f.FirstPoint {
	case Yes:
		return nil
	case No:
		return refuse("R3", "wait for the first recovery point, or resynchronize", "no recovery point of the way back stands yet")
	}
	return refuse("R3", "see why the original site's master target does not answer", "it is not known whether a recovery point of the way back stands")
}

// olderPoint: while it synchronizes, the side that stands by can boot what it held
// before, and nothing newer.
func olderPoint(f Facts) *vault.Refusal {
	if f.State != vault.Synchronizing {
		return nil
	}
	if !f.Older {
		_, now := describe(f)
		return refuse("R3", now+"; or, if the site where it runs is lost, choose a point from before: --point "+vault.LostWrites,
			"its first recovery point does not stand yet")
	}
	return pointsKnown(f)
}

// nothingOlder: amid a synchronization the disks of the side that stands by boot only by
// the points from before. If the other side is lost nobody has more than that.
func nothingOlder(f Facts) *vault.Refusal {
	if f.State != vault.Synchronizing || f.Discard {
		return nil
	}
	switch f.Unfinished {
	case opReprotect, opFailOver, opCancel:
		to := string(f.Leg.To()) + " site"
		return refuse("", "wait until it is protected; or boot that state, with --point "+vault.LostWrites+"; or let it go, with --discard-branch",
			"it would destroy the state that the machine had at its "+to+" (point "+vault.LostWrites+"): its disks there are partly overwritten, and boot only with the points that disable deletes")
	}
	return nil
}

// connected demands that the site where the machine does not run can be asked; with
// a state, only in that one.
func connected(when vault.State, rule string) check {
	return func(f Facts) *vault.Refusal {
		if f.Other == Yes || when != None && f.State != when {
			return nil
		}
		site := string(other(f.At)) + " site"
		if f.Other == No {
			return refuse(rule, "start its configuration server and let it reach the vault", "the "+site+" is not connected")
		}
		return refuse(rule, "see the state of its configuration server", "it is not known whether the "+site+" is connected")
	}
}

// unlessServed is a check that matters no more once the point is served: what is left of
// the move takes place where the machine is to run, also when the other site is lost.
func unlessServed(c check) check {
	return func(f Facts) *vault.Refusal {
		if f.State == vault.FailedOver {
			return nil
		}
		return c(f)
	}
}

// machineThere: the original location is the machine's own disks; if it is gone,
// there is another way (R36), which is never chosen by itself.
func machineThere(f Facts) *vault.Refusal {
	if f.At != AtRecovery || f.Location != vault.OriginalLocation || f.Machine == Yes {
		return nil
	}
	if f.Machine == No {
		return refuse("R36", "reprotect to the alternate location: a new machine and a full copy", "the original machine is gone")
	}
	return refuse("R36", "refresh the original site, then try again", "it is not known whether the original machine is still there")
}

func testOpen(f Facts) *vault.Refusal {
	if hasTest(f) {
		return nil
	}
	return refuse("", "there is nothing to clean up", "no test failover is open")
}

func hasTest(f Facts) bool { return f.Test != "" && f.Test != vault.TestNone }

func notPaused(f Facts) *vault.Refusal {
	if f.Paused {
		return refuse("", "resume replication first", "replication is paused")
	}
	return nil
}

// shipping: a planned move ships the last writes; one without its source needs none.
func shipping(f Facts) *vault.Refusal {
	if f.Force || f.State == vault.Synchronizing {
		return nil
	}
	if f.Unfinished == opReassociate {
		return refuse("", "let it come there, or reassociate it back to where it was; or go on without the source, with force", "its replica is on its way to another master target, where its last writes would go")
	}
	return notPaused(f)
}

func paused(f Facts) *vault.Refusal {
	if f.Paused {
		return nil
	}
	return refuse("", "there is nothing to resume", "replication is not paused")
}

// notCommitting: once the copy is being made the replica, there is one way only.
func notCommitting(f Facts) *vault.Refusal {
	if f.State != vault.FailedOver || f.Committing == No && f.Unfinished != opCommit {
		return nil
	}
	if f.Committing == Yes || f.Unfinished == opCommit {
		return refuse("", "commit it to the end, then reprotect", "its commit has begun")
	}
	return refuse("", "see why the master target that serves the machine does not answer", "it is not known whether its commit has begun")
}

// begunFailover: a protected item has something to cancel only while a failover
// was cut short before its point was served.
func begunFailover(f Facts) *vault.Refusal {
	if f.State == vault.FailedOver {
		return nil
	}
	switch f.Unfinished {
	case opFailOver, opFailBack, opCancel:
		return nil
	}
	return refuse("", "a failover or failback can be cancelled until it is committed", "there is no failover to cancel")
}

// foreign: only who was moved without this vault has something to adopt.
func foreign(f Facts) *vault.Refusal {
	switch {
	case f.Foreign == Yes:
		return nil
	case f.Foreign == No:
		return refuse("", "there is nothing to adopt", "the nodes report what the vault has recorded")
	}
	return refuse("", "see why the nodes of the item do not answer", "it is not known whether the nodes report another state than is recorded")
}
