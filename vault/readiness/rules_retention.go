package readiness

import (
	"fmt"
	"slices"

	"github.com/homeward-dr/homeward"
)

// RetentionReserve is what a master target keeps free on a retention volume.
const RetentionReserve = 64 << 20

func retentionRules() []Rule {
	source := "the mounts in the master target's heartbeat"
	rules := []Rule{
		{ID: "R102", Title: "There is a retention volume", Source: "001 L76; 002 L27; 003 L178", Blocks: true, Facts: source, Check: hasRetention},
		{ID: "R103", Title: "Only eligible volumes are offered", Source: "001 L76; 002 L27; 003 L178", Facts: source, Check: offered},
	}
	for _, c := range criteria() {
		rules = append(rules, Rule{ID: c.rule, Title: c.title, Source: c.source, Blocks: true, Facts: source + ", for the volume that is chosen",
			Check: func(q *inquiry) { meets(q, c) }})
	}
	return append(rules,
		Rule{ID: "R110", Title: "The master target has a default volume", Source: "001 L90; 002 L32; 003 L185", Facts: source, Check: hasDefault},
		Rule{ID: "H5", Title: "The retention volume has enough free space", Source: "Homeward", Blocks: true, Ignores: true,
			Facts: source + ", and the estimate of what will travel", Check: enoughFree})
}

// volumes are the master target's.
func volumes(q *inquiry) ([]homeward.Volume, bool) {
	if q.MasterTarget.Name == "" {
		q.skip(q.item(), "no master target is assigned")
		return nil, false
	}
	return must(q, "master target "+q.MasterTarget.Name, "its volumes", q.MasterTarget.Volumes)
}

// volume is the one chosen, or the default. If there is none, R102 says so.
func volume(q *inquiry) (homeward.Volume, bool) {
	all, known := volumes(q)
	if !known {
		return homeward.Volume{}, false
	}
	v, found, known := pick(q, all)
	if known && !found {
		q.skip("master target "+q.MasterTarget.Name, "the volume is not there (R102)")
	}
	return v, known && found
}

func pick(q *inquiry, all []homeward.Volume) (v homeward.Volume, found, known bool) {
	chosen, known := need(q, q.item(), "the retention volume that is chosen", q.Chosen.Retention)
	if !known {
		return v, false, false
	}
	i := slices.IndexFunc(all, func(v homeward.Volume) bool {
		if chosen != nil {
			return v.Path == *chosen
		}
		return v.Default
	})
	if i < 0 {
		return v, false, true
	}
	return all[i], true, true
}

func hasRetention(q *inquiry) {
	all, known := volumes(q)
	if !known {
		return
	}
	v, found, known := pick(q, all)
	if !known {
		return
	}
	subject := "master target " + q.MasterTarget.Name
	if !found {
		q.block(subject, "add a disk to it, format and mount it, and choose it with --retention; it shows within 15 minutes, or after a refresh (R112)", "the volume chosen (or a default one) is not there")
		return
	}
	q.ok(subject, "volume %s", v.Path)
}

func offered(q *inquiry) {
	all, known := volumes(q)
	if !known {
		return
	}
	fit := 0
	for _, v := range all {
		if ok, _, _ := VolumeEligibility(v); ok {
			fit++
		}
	}
	subject := "master target " + q.MasterTarget.Name
	if fit == 0 {
		q.block(subject, "mount a volume that meets R104 to R108", "none of its %d volumes is eligible", len(all))
		return
	}
	q.ok(subject, "%d of %d volumes are eligible", fit, len(all))
}

func meets(q *inquiry, c criterion) {
	v, found := volume(q)
	if !found {
		return
	}
	subject := "volume " + v.Path + " of " + q.MasterTarget.Name
	if f := c.hidden(v); f != "" {
		q.unknown(subject, "its "+f, "the master target could not find it out")
		return
	}
	if why := c.why(v); why != "" {
		q.block(subject, "choose another volume with --retention", "%s", why)
		return
	}
	q.ok(subject, "as it should be")
}

func hasDefault(q *inquiry) {
	all, known := volumes(q)
	if !known {
		return
	}
	subject := "master target " + q.MasterTarget.Name
	for _, v := range all {
		if v.Default {
			q.ok(subject, "its default is %s", v.Path)
			return
		}
	}
	q.warn(subject, "name the volume in each request, or restart it with a default one", "it has no default retention volume")
}

func enoughFree(q *inquiry) {
	v, found := volume(q)
	if !found {
		return
	}
	subject := "volume " + v.Path + " of " + q.MasterTarget.Name
	if slices.Contains(v.Unknown, "free") || slices.Contains(v.Unknown, "size") {
		q.unknown(subject, "its free space", "the master target could not find it out")
		return
	}
	need, known := need(q, q.item(), "how much will travel", q.Need)
	if !known {
		return
	}
	want := int64(RetentionReserve)
	if need != nil {
		want += *need
	}
	const remedy = "free some, take another volume, or shorten retention"
	switch {
	case v.Free < want:
		q.block(subject, remedy, "%s free, %s needed", mib(v.Free), mib(want))
	case v.Free < v.Size/10:
		q.warn(subject, remedy, "%s free of %s", mib(v.Free), mib(v.Size))
	default:
		q.ok(subject, "%s free", mib(v.Free))
	}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
