package readiness

func groupRules() []Rule {
	source := "the membership of the item's replication group"
	return []Rule{
		{ID: "R12", Title: "All of a replication group run the same OS", Source: "000 L10; 002 L11", Blocks: true,
			Facts: source, Check: func(q *inquiry) {
				members(q, "OS family", "split the group by OS", func(m Member) string { return m.OSFamily })
			}},
		{ID: "R14", Title: "All of a replication group use one master target", Source: "000 L10, L31; 001 L127; 002 L11; 003 L195", Blocks: true,
			Facts: source, Check: func(q *inquiry) {
				members(q, "master target", "choose one master target for all: 'homeward item reassociate'", func(m Member) string { return m.MasterTarget })
			}},
	}
}

// members checks that something is the same for all members of the group.
func members(q *inquiry, what, remedy string, of func(Member) string) {
	g, known := need(q, q.item(), "its replication group", q.Group)
	if !known {
		return
	}
	if g == nil {
		q.skip(q.item(), "it is in no replication group")
		return
	}
	subject, first := "group "+g.Name, ""
	for _, m := range g.Members {
		switch v := of(m); {
		case v == "":
			q.unknown("item "+string(m.Item), "its "+what, "")
			return
		case first == "":
			first = v
		case v != first:
			q.block(subject, remedy, "%s %s of %s is not the others' %s", what, v, m.Item, first)
			return
		}
	}
	q.ok(subject, "%d members, %s %s", len(g.Members), what, first)
}
