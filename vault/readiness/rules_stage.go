package readiness

import "github.com/homeward-dr/homeward/vault"

func stageRules() []Rule {
	return []Rule{
		{ID: "R3", Title: "Failback only when reprotected and replicating", Source: "001 L25, L135; 002 L4; 000 L69", Blocks: true,
			Facts: "the item's state and points, as its master target reports them", Check: replicating},
		{ID: "R25", Title: "Not migrated", Source: "000 L20", Blocks: true,
			Facts: "the item's state", Check: notMigrated},
		{ID: "R136", Title: "The failover is committed", Source: "004 L13",
			Facts: "the item's state", Check: committed},
		{ID: "R171", Title: "A test failover has worked", Source: "004 L80",
			Facts: "the item's test failovers", Check: testedFailover},
		{ID: "H1", Title: "Recovery points keep up", Source: "Homeward",
			Facts: "the newest applied point, as the master target reports it, and the policy's RPO threshold", Check: pointsKeepUp},
	}
}

func replicating(q *inquiry) {
	if !q.in(Returning) {
		return
	}
	if q.Item.State != vault.Protected {
		q.block(q.item(), "wait for the first recovery point: 'homeward item show "+string(q.Item.ID)+" --watch'",
			"reverse replication is not in sync yet: %s", q.Item.State)
		return
	}
	if q.Item.Replication.As.IsZero() {
		q.unknown(q.item(), "how replication stands", q.Item.Replication.Why)
		return
	}
	if q.Item.Replication.Points == 0 {
		q.block(q.item(), "wait for the first recovery point", "there is no recovery point to fail back to")
		return
	}
	q.ok(q.item(), "replicates back, %d points", q.Item.Replication.Points)
}

func notMigrated(q *inquiry) {
	if q.Item.State == vault.Migrated {
		q.block(q.item(), "protect the machine anew from where it runs", "its migration was completed: there is no way back")
		return
	}
	q.ok(q.item(), "not migrated")
}

func committed(q *inquiry) {
	if !q.in(Away, Home) {
		return
	}
	if q.Item.State == vault.FailedOver {
		q.warn(q.item(), "check the machine, change the point if it must be; or let reprotect commit it as its first task",
			"the failover is not committed: its point can still be changed")
		return
	}
	q.ok(q.item(), "committed")
}

func testedFailover(q *inquiry) {
	if StageOf(q.Item) == Over {
		q.skip(q.item(), "nothing is replicated any more")
		return
	}
	if q.Item.Test.Succeeded.IsZero() {
		q.warn(q.item(), "run 'homeward item test-failover "+string(q.Item.ID)+"' and clean it up", "no test failover of it has ever worked")
		return
	}
	q.ok(q.item(), "last one on %s", q.Item.Test.Succeeded.Format("2006-01-02"))
}

func pointsKeepUp(q *inquiry) {
	if !q.in(Forward, Returning) {
		return
	}
	r := q.Item.Replication
	if r.As.IsZero() || r.Newest.IsZero() && r.Points > 0 {
		q.unknown(q.item(), "the newest recovery point", r.Why)
		return
	}
	if r.Points == 0 {
		q.warn(q.item(), "wait for the first synchronization", "there is no recovery point yet")
		return
	}
	p, known := must(q, q.item(), "its policy", q.Policy)
	if !known {
		return
	}
	limit := p.Settings.RPOThreshold
	if age := q.Now.Sub(r.Newest); limit > 0 && age > limit {
		q.warn(q.item(), "see 'homeward item show "+string(q.Item.ID)+"' for what holds replication up", "the newest point is %s old, the threshold is %s", short(age), short(limit))
		return
	}
	q.ok(q.item(), "newest of %d points is from %s", r.Points, r.Newest.Format("15:04:05"))
}
