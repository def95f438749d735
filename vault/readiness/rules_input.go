package readiness

import (
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

func inputRules() []Rule {
	return []Rule{
		{ID: "R36", Title: "Alternate location: all its inputs are given", Source: "000 L40; 001 L120; 003 L189", Blocks: true,
			Facts: "the inputs of the request, else the ones preselected", Check: alternateInputs},
		{ID: "R40", Title: "A datastore is given, and the site has it", Source: "000 L50; 001 L115; 003 L177", Blocks: true,
			Facts: "the inputs, and the options that the target site offers", Check: datastoreGiven},
		{ID: "R41", Title: "A retention volume is selected", Source: "000 L52; 001 L116; 003 L178", Blocks: true,
			Facts: "the inputs, and the master target's default volume", Check: retentionGiven},
		{ID: "R42", Title: "The policy of the way is selected by itself", Source: "000 L54; 001 L117; 003 L186", Blocks: true,
			Facts: "the item's policy and its pair", Check: policySelected},
	}
}

// inputTime skips rules about inputs once replication takes the way.
func inputTime(q *inquiry) bool { return q.in(Forward, Away, Home) }

func alternateInputs(q *inquiry) {
	if !inputTime(q) {
		return
	}
	if q.original() {
		q.skip(q.item(), "it is to go to its original location")
		return
	}
	datastores, known := datastoreField(q)
	if !known {
		return
	}
	if datastores != nil {
		if p, known := need(q, q.item(), "the datastore that is chosen", q.Chosen.Datastore); !known {
			return
		} else if p == nil || *p == "" {
			q.block(q.item(), "see 'homeward item placement "+string(q.Item.ID)+"', and give one with --datastore", "no datastore is given for the new machine")
			return
		}
	}
	retentionGiven(q)
}

// datastoreField is the target site's choice of datastores; nil: it has none.
func datastoreField(q *inquiry) (*homeward.Field, bool) {
	fields, known := must(q, "site "+q.To.Name, "the inputs it takes", q.Chosen.Options)
	if !known {
		return nil, false
	}
	i := slices.IndexFunc(fields, func(f homeward.Field) bool { return f.Name == "datastore" })
	if i < 0 {
		return nil, true
	}
	return &fields[i], true
}

func datastoreGiven(q *inquiry) {
	if !inputTime(q) {
		return
	}
	field, known := datastoreField(q)
	if !known {
		return
	}
	if field == nil {
		q.skip("site "+q.To.Name, "it has no datastores")
		return
	}
	p, known := need(q, q.item(), "the datastore that is chosen", q.Chosen.Datastore)
	if !known {
		return
	}
	if p == nil || *p == "" {
		q.block(q.item(), "give one with --datastore; it is ignored where the disks exist", "no datastore is given")
		return
	}
	subject := "datastore " + *p
	if len(field.Options) == 0 {
		q.ok(subject, "given")
		return
	}
	for _, o := range field.Options {
		if o.Value != *p {
			continue
		}
		if !o.Eligible && !q.original() {
			q.block(subject, "choose another: 'homeward item placement "+string(q.Item.ID)+"'", "not eligible: %s", o.Why)
			return
		}
		q.ok(subject, "the site has it")
		return
	}
	q.block(subject, "choose one it has: 'homeward item placement "+string(q.Item.ID)+"'", "site %s does not have it", q.To.Name)
}

func retentionGiven(q *inquiry) {
	if !inputTime(q) {
		return
	}
	p, known := need(q, q.item(), "the retention volume that is chosen", q.Chosen.Retention)
	if !known {
		return
	}
	if p != nil && *p != "" {
		q.ok("volume "+*p, "selected")
		return
	}
	all, known := volumes(q)
	if !known {
		return
	}
	if slices.ContainsFunc(all, func(v homeward.Volume) bool { return v.Default }) {
		q.ok(q.item(), "the master target's default volume")
		return
	}
	q.block(q.item(), "give one with --retention", "no retention volume is selected, and %s has no default one", q.MasterTarget.Name)
}

func policySelected(q *inquiry) {
	p, known := need(q, q.item(), "the policy of the way", q.Policy)
	if !known {
		return
	}
	want := BackPolicy(q.Item)
	if p == nil || p.Name != want {
		q.block("policy "+want, "change the forward policy once, which makes its pair anew: 'homeward policy update "+q.Item.Policy+"'", "it is not the one selected")
		return
	}
	q.ok("policy "+want, "selected")
}

func policyRules() []Rule {
	source := "the policies in the vault's store"
	return []Rule{
		{ID: "R129", Title: "There is a failback policy", Source: "001 L101; 002 L12; 003 L80", Blocks: true, Facts: source, Check: func(q *inquiry) {
			failbackPolicy(q, func(vault.Policy) string { return "" })
		}},
		{ID: "R130", Title: "It belongs to the forward policy", Source: "001 L101; 002 L12; 003 L80", Blocks: true, Facts: source, Check: func(q *inquiry) {
			failbackPolicy(q, func(p vault.Policy) string {
				if !p.Failback || p.Of != q.Item.Policy {
					return "it is not the failback policy of " + q.Item.Policy
				}
				return ""
			})
		}},
		{ID: "R133", Title: "RPO threshold 15 min, points for 24 h, app-consistent each 60 min", Source: "001 L105; 002 L12; 003 L84", Facts: source, Check: func(q *inquiry) {
			failbackPolicy(q, func(p vault.Policy) string {
				want := vault.FailbackSettings()
				if p.Settings.RPOThreshold != want.RPOThreshold || p.Settings.AppEvery != want.AppEvery || !slices.Equal(p.Settings.Retention, want.Retention) {
					return "its settings are not those of failback policies"
				}
				return ""
			})
		}},
	}
}

func failbackPolicy(q *inquiry, wrong func(vault.Policy) string) {
	if !q.in(Forward, Away, Returning) {
		return
	}
	subject := "policy " + vault.FailbackName(q.Item.Policy)
	p, known := need(q, subject, "whether it is there", q.Policy)
	if !known {
		return
	}
	const remedy = "change the forward policy once: that makes its failback policy anew"
	if p == nil {
		q.block(subject, remedy, "there is no failback policy")
		return
	}
	if why := wrong(*p); why != "" {
		q.block(subject, remedy, "%s", why)
		return
	}
	q.ok(subject, "as it should be")
}
