package readiness

import (
	"slices"

	"github.com/homeward-dr/homeward"
)

func masterTargetRules() []Rule {
	families := "the OS family in the master target's heartbeat, and in the machine's newest manifest"
	return []Rule{
		{ID: "R10", Title: "The master target's machine has no snapshots", Source: "000 L9; 002 L11", Blocks: true, Ignores: true,
			Facts: "the machine that the master target's heartbeat names, in its site's inventory", Check: noTargetSnapshots},
		{ID: "R13", Title: "Master target and machine have the same OS family", Source: "000 L10; 001 L60, L92; 002 L11, L23", Blocks: true, Ignores: true,
			Facts: families, Check: sameFamily},
		{ID: "R76", Title: "A Linux machine goes by a Linux master target, Windows by Windows", Source: "001 L60, L92; 002 L23", Blocks: true, Ignores: true,
			Facts: families, Check: sameFamily},
		{ID: "R79", Title: "The master target's OS version is the same or higher", Source: "002 L11",
			Facts: "the OS version in the master target's heartbeat, and the one that the machine's site tells", Check: sameVersion},
		{ID: "R77", Title: "At most 60 disks at a master target", Source: "002 L11", Blocks: true,
			Facts: "the replica disks in the master target's heartbeat, and the machine's", Check: diskLimit},
	}
}

func noTargetSnapshots(q *inquiry) {
	if q.MasterTarget.Name == "" {
		q.skip(q.item(), "no master target is assigned")
		return
	}
	subject := "master target " + q.MasterTarget.Name
	n, known := need(q, subject, "the snapshots of the machine it runs in", q.MasterTarget.Snapshots)
	switch {
	case !known:
	case n == nil:
		q.skip(subject, "it runs in no machine that could have snapshots at its site")
	case *n > 0:
		q.block(subject, "delete them at its site, then 'homeward site refresh "+q.MasterTarget.Site+"'", "its machine has %d snapshots", *n)
	default:
		q.ok(subject, "its machine has no snapshots")
	}
}

// families are those of master target and machine.
func families(q *inquiry) (target, machine string, m homeward.Machine, known bool) {
	if q.MasterTarget.Name == "" {
		q.skip(q.item(), "no master target is assigned")
		return "", "", m, false
	}
	m, known = must(q, q.item(), "its machine", q.Machine)
	if !known {
		return "", "", m, false
	}
	if m.OSFamily == "" {
		q.unknown(q.item(), "its OS family", "its manifest does not tell")
		return "", "", m, false
	}
	target, known = must(q, "master target "+q.MasterTarget.Name, "its OS family", q.MasterTarget.OSFamily)
	return target, m.OSFamily, m, known
}

func sameFamily(q *inquiry) {
	target, machine, _, known := families(q)
	subject := "master target " + q.MasterTarget.Name
	switch {
	case !known:
	case target != machine:
		q.block(subject, "choose a "+machine+" master target; Homeward's never mounts what is on the disks, so this may be overridden", "it runs %s, the machine %s", target, machine)
	default:
		q.ok(subject, "both run %s", machine)
	}
}

func sameVersion(q *inquiry) {
	target, machine, m, known := families(q)
	if !known {
		return
	}
	subject := "master target " + q.MasterTarget.Name
	if target != machine {
		q.skip(subject, "the families differ (R13)")
		return
	}
	if m.OSVersion == "" {
		q.unknown(q.item(), "its OS version", "its manifest does not tell")
		return
	}
	version, known := must(q, subject, "its OS version", q.MasterTarget.OSVersion)
	if !known {
		return
	}
	tName, tNumber, tOK := system(version)
	mName, mNumber, mOK := system(m.OSVersion)
	switch {
	case !tOK || !mOK || tName != mName:
		q.skip(subject, "%q and %q are versions of different systems", version, m.OSVersion)
	case slices.Compare(tNumber, mNumber) < 0:
		q.warn(subject, "choose a master target of the machine's version or a newer one", "it runs %s, the machine %s", version, m.OSVersion)
	default:
		q.ok(subject, "%s for %s", version, m.OSVersion)
	}
}

func diskLimit(q *inquiry) {
	if q.MasterTarget.Name == "" {
		q.skip(q.item(), "no master target is assigned")
		return
	}
	subject := "master target " + q.MasterTarget.Name
	held, known := must(q, subject, "how many disks it holds", q.MasterTarget.Disks)
	if !known {
		return
	}
	more := 0
	if StageOf(q.Item) != Returning { // then it holds them already
		m, known := must(q, q.item(), "its machine", q.Machine)
		if !known {
			return
		}
		more = len(m.Disks)
	}
	if held+more > homeward.MaxDisks {
		q.block(subject, "enrol another master target and choose it (R78)", "it holds %d disks, %d more would make over %d", held, more, homeward.MaxDisks)
		return
	}
	q.ok(subject, "%d disks of %d with the machine's", held+more, homeward.MaxDisks)
}
