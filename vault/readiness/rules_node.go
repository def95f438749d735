package readiness

import (
	"time"

	"github.com/homeward-dr/homeward/vault"
)

// What is tolerated of nodes.
const (
	RegisteringLimit = 15 * time.Minute   // R34: longer raises an alert
	SkewWarning      = 5 * time.Second    // of a clock against the vault's
	SkewBlocker      = 5 * time.Minute    // certificates and points are then wrong
	ExpiryWarning    = 7 * 24 * time.Hour // before a certificate ends
)

func nodeRules() []Rule {
	return []Rule{
		{ID: "R34", Title: "The agent has registered again", Source: "000 L38", Blocks: true,
			Facts: "the agent's enrolment and its heartbeats", Check: func(q *inquiry) { registered(q, "agent", q.Agent) }},
		{ID: "R61", Title: "There is a process server", Source: "001 L38; 002 L10", Blocks: true,
			Facts: "the process server's heartbeats", Check: func(q *inquiry) { registered(q, "process server", q.ProcessServer) }},
		{ID: "R65", Title: "The process server is where the machine runs", Source: "002 L10; 003 L97",
			Facts: "the site with which the process server enrolled", Check: nearProcessServer},
		{ID: "R74", Title: "There is a master target", Source: "001 L60; 002 L11", Blocks: true,
			Facts: "the master target's heartbeats", Check: func(q *inquiry) { registered(q, "master target", q.MasterTarget) }},
		{ID: "R39", Title: "The nodes stand at the right sites", Source: "000 L48; 001 L114; 003 L176", Blocks: true,
			Facts: "the site with which each node enrolled", Check: rightSites},
		{ID: "H2", Title: "Clocks agree", Source: "Homeward", Blocks: true, Ignores: true,
			Facts: "the clock in each node's heartbeat against the vault's", Check: clocks},
		{ID: "H3", Title: "Versions go together", Source: "Homeward", Blocks: true, Ignores: true,
			Facts: "the version each node says when it connects", Check: versions},
		{ID: "H4", Title: "Certificates are valid", Source: "Homeward", Blocks: true,
			Facts: "the certificates the vault issued", Check: certificates},
	}
}

func registered(q *inquiry, role string, n Node) {
	subject := role + " " + n.Name
	if n.Name == "" {
		q.block(q.item(), "enrol one ('homeward node enrol-token') and choose it", "no %s is assigned", role)
		return
	}
	state, known := must(q, subject, "its state", n.State)
	if !known {
		return
	}
	switch state {
	case vault.NodeReady:
		q.ok(subject, "its heartbeats come")
	case vault.NodeRegistering:
		since, known := must(q, subject, "since when it registers", n.Since)
		switch waited := q.Now.Sub(since); {
		case known && waited > RegisteringLimit:
			q.block(subject, "see its log: it must reach the vault; then enrol it anew", "not registered since %s, over %s", short(waited), short(RegisteringLimit))
		case known:
			q.block(subject, "wait a few minutes and try again", "it has not registered yet, for %s; it may take %s", short(waited), short(RegisteringLimit))
		}
	case vault.NodeRevoked:
		q.block(subject, "enrol another one and choose it: 'homeward item reassociate'", "its certificate is revoked")
	default:
		q.block(subject, "start it, and see that it reaches the vault", "it is %s", state)
	}
}

func nearProcessServer(q *inquiry) {
	n := q.ProcessServer
	switch {
	case n.Name == "":
		q.skip(q.item(), "no process server is assigned")
	case n.Site != q.From.Name:
		q.warn("process server "+n.Name, "enrol a process server at "+q.From.Name, "it stands at %s, the machine runs at %s: every write goes over the link first", n.Site, q.From.Name)
	default:
		q.ok("process server "+n.Name, "it stands at %s", n.Site)
	}
}

func rightSites(q *inquiry) {
	for _, place := range []struct {
		role, site string
		n          Node
	}{{"agent", q.From.Name, q.Agent}, {"master target", q.To.Name, q.MasterTarget}} {
		switch subject := place.role + " " + place.n.Name; {
		case place.n.Name == "":
			q.skip(q.item(), "no %s is assigned", place.role)
		case place.n.Site != place.site:
			q.block(subject, "choose a node of site "+place.site, "it stands at %s, not at %s", place.n.Site, place.site)
		default:
			q.ok(subject, "it stands at %s", place.site)
		}
	}
}

// each asks about every node that takes part.
func each(q *inquiry, ask func(subject string, n Node)) {
	assigned := false
	for _, part := range []struct {
		role string
		n    Node
	}{{"agent", q.Agent}, {"process server", q.ProcessServer}, {"master target", q.MasterTarget}} {
		if part.n.Name != "" {
			assigned = true
			ask(part.role+" "+part.n.Name, part.n)
		}
	}
	if !assigned {
		q.skip(q.item(), "no node is assigned")
	}
}

func clocks(q *inquiry) {
	each(q, func(subject string, n Node) {
		skew, known := must(q, subject, "its clock", n.Skew)
		const remedy = "run a time service (NTP) on it and on the vault's machine"
		switch off := skew.Abs(); {
		case !known:
		case off > SkewBlocker:
			q.block(subject, remedy, "its clock is off by %s", short(skew))
		case off > SkewWarning:
			q.warn(subject, remedy, "its clock is off by %s", short(skew))
		default:
			q.ok(subject, "its clock is right within %s", short(SkewWarning))
		}
	})
}

func versions(q *inquiry) {
	each(q, func(subject string, n Node) {
		v, known := must(q, subject, "its version", n.Version)
		if !known {
			return
		}
		switch fit := compareVersions(v, q.Version); fit {
		case versionSame, versionBefore:
			q.ok(subject, "%s with the vault's %s", v, q.Version)
		case versionOld:
			q.block(subject, "update it: a node may be one minor version behind the vault", "its version %s is too old for the vault's %s", v, q.Version)
		case versionNew:
			q.block(subject, "update the vault first", "its version %s is newer than the vault's %s", v, q.Version)
		default:
			q.warn(subject, "run released versions", "version %s cannot be compared with the vault's %s", v, q.Version)
		}
	})
}

func certificates(q *inquiry) {
	each(q, func(subject string, n Node) {
		end, known := must(q, subject, "when its certificate expires", n.Expires)
		switch left := end.Sub(q.Now); {
		case !known:
		case left <= 0:
			q.block(subject, "start it: an expired certificate may still renew; if it is revoked, enrol it anew", "its certificate expired on %s", end.Format(time.DateOnly))
		case left < ExpiryWarning:
			q.warn(subject, "see its log for why it does not renew", "its certificate expires on %s", end.Format(time.DateOnly))
		default:
			q.ok(subject, "its certificate is valid until %s", end.Format(time.DateOnly))
		}
	})
}
