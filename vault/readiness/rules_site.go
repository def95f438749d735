package readiness

import "github.com/homeward-dr/homeward/vault"

func siteRules() []Rule {
	return []Rule{
		{ID: "R7", Title: "The configuration server runs and is connected", Source: "000 L8; 002 L9; 003 L75", Blocks: true,
			Facts: "the session of the site's configuration server with the vault", Check: func(q *inquiry) { connected(q, q.To) }},
		{ID: "R8", Title: "The machine is known to its configuration server", Source: "000 L8; 002 L9; 003 L75", Blocks: true,
			Facts: "the inventory of the site, as its configuration server last told it whole", Check: machineKnown},
		{ID: "R48", Title: "The running side can be told to shut down", Source: "000 L69; 001 L135",
			Facts: "the session of the running site's configuration server", Check: func(q *inquiry) {
				if q.in(Away, Returning) {
					connected(q, q.From)
				}
			}},
		{ID: "R137", Title: "The target site can take machines", Source: "004 L14", Blocks: true,
			Facts: "the capabilities that the site's driver states", Check: targetCanRun},
		{ID: "R27", Title: "The failed-over machine is there", Source: "000 L22", Blocks: true,
			Facts: "the running site's inventory", Check: runningThere},
	}
}

func connected(q *inquiry, s Site) {
	subject := "site " + s.Name
	is, known := must(q, subject, "whether its configuration server is connected", s.Connected)
	switch {
	case !known:
	case is:
		q.ok(subject, "its configuration server is connected")
	default:
		q.block(subject, "start the site's configuration server, or enrol a new one: 'homeward node enrol-token'", "its configuration server is not connected")
	}
}

func machineKnown(q *inquiry) {
	subject := "machine " + q.Item.Machine
	if StageOf(q.Item) == Home {
		q.skip(subject, "forward replication starts from the machine as it runs")
		return
	}
	p, known := need(q, subject, "whether its site has it", q.Old.Presence)
	switch {
	case !known:
	case p == nil:
		q.block(subject, "run 'homeward site refresh "+q.To.Name+"'; if it stays unknown, disable replication and protect it anew", "the vault has no record of it")
	case *p == vault.Unseen:
		q.unknown(subject, "whether its site has it", "the site cannot be asked")
	case *p == vault.Gone && q.original():
		q.block(subject, "reprotect to an alternate location: --location alternate", "site %s does not have it any more", q.To.Name)
	default:
		q.ok(subject, "known to the vault, %s", *p)
	}
}

func targetCanRun(q *inquiry) {
	subject := "site " + q.To.Name
	c, known := must(q, subject, "what it can", q.To.Capabilities)
	if !known {
		return
	}
	needs := []string{"PowerOn"}
	if !q.original() {
		needs = append(needs, "Create")
	}
	for _, call := range needs {
		if why, lacks := c.Lacks[call]; lacks {
			q.block(subject, "choose another site or location", "it cannot do %s: %s", call, why)
			return
		}
	}
	q.ok(subject, "%s can start machines", c.Kind)
}

func runningThere(q *inquiry) {
	if !q.in(Away, Returning) {
		return
	}
	subject := q.item() + " at " + q.From.Name
	p, known := need(q, subject, "whether the failed-over machine is there", q.Running.Presence)
	switch {
	case !known:
	case p == nil || *p == vault.Gone:
		q.block(subject, "disable replication and protect the machine anew", "the failed-over machine was deleted")
	case *p == vault.Unseen:
		q.unknown(subject, "whether the failed-over machine is there", "the site cannot be asked")
	default:
		q.ok(subject, "it is there")
	}
}
