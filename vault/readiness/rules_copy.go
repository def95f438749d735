package readiness

import (
	"slices"

	"github.com/homeward-dr/homeward"
)

func copyRules() []Rule {
	return []Rule{
		{ID: "R45", Title: "The old side is powered off by reprotect", Source: "000 L63",
			Facts: "the power state that the old side's site tells", Check: offBefore},
		{ID: "R46", Title: "The old side stays powered off", Source: "000 L64", Blocks: true,
			Facts: "the power state that the old side's site tells", Check: offAfter},
		{ID: "R148", Title: "The old side is guarded", Source: "004 L37",
			Facts: "the guards that the old side's site holds", Check: guarded},
		{ID: "R113", Title: "The old machine has no snapshots", Source: "003 L70 (against 000 L9: see C1)", Blocks: true,
			Facts: "the number of snapshots of the machine that the old side's site tells", Check: noSnapshots},
		{ID: "H6", Title: "The machine's disks can be replicated", Source: "Homeward", Blocks: true,
			Facts: "the flags of its disks, as the site tells them", Check: replicable},
	}
}

// power of the old side's machine; false: unknown, or there is none.
func power(q *inquiry) (homeward.PowerState, bool) {
	subject := q.item() + " at " + q.To.Name
	p, known := need(q, subject, "its power state", q.Old.Power)
	if !known {
		return "", false
	}
	if p == nil {
		q.skip(subject, "there is no machine")
		return "", false
	}
	if *p != homeward.PowerOff && *p != homeward.PowerOn {
		q.unknown(subject, "its power state", "the site cannot tell")
		return "", false
	}
	return *p, true
}

func offBefore(q *inquiry) {
	if !q.in(Away, Home) {
		return
	}
	subject := q.item() + " at " + q.To.Name
	switch p, known := power(q); {
	case !known:
	case p == homeward.PowerOn:
		q.warn(subject, "see that nobody works on it: reprotect powers it off, and keeps what it wrote only as the point \"lost-writes\"", "it runs, beside the machine that was failed over")
	default:
		q.ok(subject, "it is off")
	}
}

func offAfter(q *inquiry) {
	if !q.in(Returning) {
		return
	}
	subject := q.item() + " at " + q.To.Name
	switch p, known := power(q); {
	case !known:
	case p == homeward.PowerOn:
		q.block(subject, "power it off at its site, then 'homeward item resync "+string(q.Item.ID)+"'", "it was powered on: it must stay off while it is the copy")
	default:
		q.ok(subject, "it is off")
	}
}

func guarded(q *inquiry) {
	if !q.in(Returning) {
		return
	}
	subject := q.item() + " at " + q.To.Name
	c, known := must(q, "site "+q.To.Name, "what it can", q.To.Capabilities)
	if !known {
		return
	}
	if why, lacks := c.Lacks["Guard"]; lacks {
		q.skip(subject, "the site has no guards: %s", why)
		return
	}
	guards, known := need(q, subject, "its guards", q.Old.Guards)
	switch {
	case !known:
	case guards == nil:
		q.skip(subject, "there is no machine")
	case !slices.ContainsFunc(*guards, func(g homeward.Guard) bool {
		return g.Kind == homeward.GuardNoPowerOn || g.Kind == homeward.GuardReadOnly
	}):
		q.warn(subject, "see that nobody powers it on or deletes it; resync sets the guard anew", "nothing keeps people from powering it on")
	default:
		q.ok(subject, "guarded by its site")
	}
}

func noSnapshots(q *inquiry) {
	if !q.in(Away, Home, Returning) {
		return
	}
	subject := q.item() + " at " + q.To.Name
	if !q.original() {
		q.skip(subject, "the old machine is not used")
		return
	}
	n, known := need(q, subject, "its snapshots", q.Old.Snapshots)
	switch {
	case !known:
	case n == nil:
		q.skip(subject, "its site has no snapshots")
	case *n > 0:
		q.block(subject, "delete them at its site, or reprotect with --location alternate", "it has %d snapshots", *n)
	default:
		q.ok(subject, "no snapshots")
	}
}

func replicable(q *inquiry) {
	at, site := q.Running, q.From.Name
	if s := StageOf(q.Item); s == Forward {
		at, site = q.Old, q.To.Name
	} else if s == Over {
		q.skip(q.item(), "nothing is replicated any more")
		return
	}
	subject := q.item() + " at " + site
	disks, known := must(q, subject, "its disks", at.Attachments)
	if !known {
		return
	}
	for _, d := range disks {
		why := ""
		switch {
		case d.Temporary:
			continue // not replicated, and need not be
		case d.Shared:
			why = "is shared with other machines"
		case d.RDM:
			why = "is mapped raw"
		case d.Encrypted:
			why = "is encrypted by its site"
		}
		if why != "" {
			q.block(subject, "detach it or make it a plain disk, and protect the machine anew", "disk %s %s", d.Disk, why)
			return
		}
	}
	q.ok(subject, "%d disks", len(disks))
}
