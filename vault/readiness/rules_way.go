package readiness

import (
	"net/url"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// What is demanded of the way between two nodes. A probe older than ProbeAge says
// nothing of today.
const (
	RTTWarning  = 150 * time.Millisecond
	RTTBlocker  = 2 * time.Second // calls between nodes time out at 5 s
	RateWarning = 4 << 20 / 3.0   // bytes a second: 4 MB in 3 s
	RateBlocker = 64 << 10        // bytes a second
	ProbeAge    = 30 * time.Minute
)

func wayRules() []Rule {
	probes := "probes that the nodes make of each other's data faces every few minutes"
	return []Rule{
		{ID: "R16", Title: "Ports for failback are open", Source: "000 L11; 001 L55; 002 L15; 003 L40", Blocks: true,
			Facts: probes, Check: func(q *inquiry) { eachWay(q, reachable) }},
		{ID: "R50", Title: "The failed-over machine's agent reaches the vault", Source: "001 L33", Blocks: true,
			Facts: "the agent's heartbeats: every role dials out to the vault", Check: func(q *inquiry) { registered(q, "agent", q.Agent) }},
		{ID: "R51", Title: "The process server reaches vault and master target", Source: "001 L33; 002 L10", Blocks: true,
			Facts: "the process server's heartbeats, and its probe of the master target", Check: func(q *inquiry) {
				registered(q, "process server", q.ProcessServer)
				reachable(q, q.processWay())
			}},
		{ID: "R52", Title: "The failed-over machine's agent reaches the process server", Source: "001 L38; 002 L19", Blocks: true,
			Facts: "the agent's probe of the process server", Check: func(q *inquiry) { reachable(q, q.agentWay()) }},
		{ID: "R53", Title: "Enough bandwidth from process server to master target", Source: "001 L53; 002 L20", Blocks: true, Ignores: true,
			Facts: "the throughput measured by the process server's probe", Check: func(q *inquiry) { fastEnough(q, q.processWay()) }},
		{ID: "R54", Title: "Replication back takes the way that was meant", Source: "001 L53",
			Facts: "the address probed, against those the operator labelled", Check: meantWay},
		{ID: "R55", Title: "Retained addresses: the way leads over the failback network", Source: "002 L9", Blocks: true,
			Facts: "network cards of both sides' machines, and the address that was probed", Check: failbackWay},
		{ID: "R56", Title: "Retained addresses: a production and a failback address", Source: "002 L9", Blocks: true,
			Facts: "the addresses of the master target, as labelled by the operator", Check: twoAddresses},
		{ID: "R66", Title: "The way to the master target is quick enough", Source: "002 L10", Blocks: true, Ignores: true,
			Facts: "the round-trip time measured by both probes", Check: func(q *inquiry) { eachWay(q, quickEnough) }},
	}
}

// way is one hop of the data.
type way struct {
	subject string
	there   bool // both ends are assigned
	probe   Value[homeward.ProbeReport]
}

func (q *inquiry) agentWay() way {
	return wayOf(q.Agent, q.ProcessServer, q.AgentToProcess)
}

func (q *inquiry) processWay() way {
	return wayOf(q.ProcessServer, q.MasterTarget, q.ProcessToMT)
}

func wayOf(from, to Node, probe Value[homeward.ProbeReport]) way {
	return way{"the way from " + from.Name + " to " + to.Name, from.Name != "" && to.Name != "", probe}
}

func eachWay(q *inquiry, ask func(*inquiry, way)) {
	ask(q, q.agentWay())
	ask(q, q.processWay())
}

// report is the newest probe of a way, unless it is unknown or stale.
func (w way) report(q *inquiry) (homeward.ProbeReport, bool) {
	if !w.there {
		q.skip(q.item(), "not both ends are assigned")
		return homeward.ProbeReport{}, false
	}
	r, known := must(q, w.subject, "a probe of it", w.probe)
	if !known {
		return r, false
	}
	if age := q.Now.Sub(r.At); age > ProbeAge {
		q.unknown(w.subject, "how it is now", "its newest probe is "+short(age)+" old")
		return r, false
	}
	return r, true
}

func reachable(q *inquiry, w way) {
	r, known := w.report(q)
	switch {
	case !known:
	case r.Reachable:
		q.ok(w.subject, "%s answers", r.URL)
	default:
		q.block(w.subject, "open the port in the firewalls between them, and see that the peer runs", "%s does not answer: %s", r.URL, r.Why)
	}
}

func quickEnough(q *inquiry, w way) {
	r, known := w.report(q)
	const remedy = "put the process server nearer, or see what loads the link"
	switch {
	case !known:
	case !r.Reachable:
		q.block(w.subject, "open the way first (R16)", "%s does not answer", r.URL)
	case r.RTT > RTTBlocker:
		q.block(w.subject, remedy, "a round trip takes %s; over %s calls time out", short(r.RTT), short(RTTBlocker))
	case r.RTT > RTTWarning:
		q.warn(w.subject, remedy, "a round trip takes %s, more than %s", short(r.RTT), short(RTTWarning))
	default:
		q.ok(w.subject, "a round trip takes %s", short(r.RTT))
	}
}

func fastEnough(q *inquiry, w way) {
	r, known := w.report(q)
	const remedy = "raise the link's bandwidth or the process server's limit ('homeward node limit')"
	switch {
	case !known:
	case !r.Reachable:
		q.block(w.subject, "open the way first (R16)", "%s does not answer", r.URL)
	case r.Rate == 0:
		q.unknown(w.subject, "its throughput", "the newest probe did not measure it")
	case r.Rate < RateBlocker:
		q.block(w.subject, remedy, "it carries %.0f KiB/s, under %d KiB/s nothing gets in sync", r.Rate/1024, RateBlocker>>10)
	case r.Rate < RateWarning:
		q.warn(w.subject, remedy, "it carries %.2f MiB/s, less than 4 MiB in 3 s", r.Rate/(1<<20))
	default:
		q.ok(w.subject, "it carries %.1f MiB/s", r.Rate/(1<<20))
	}
}

// label is the purpose under which the probed address of the master target is known.
func label(r homeward.ProbeReport, addresses []vault.Address) (vault.Purpose, bool) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "", false
	}
	for _, a := range addresses {
		if a.Host == u.Host {
			return a.Purpose, true
		}
	}
	return "", false
}

func meantWay(q *inquiry) {
	w := q.processWay()
	r, known := w.report(q)
	if !known {
		return
	}
	addresses, known := must(q, w.subject, "the addresses of "+q.MasterTarget.Name, q.MasterTarget.Addresses)
	if !known {
		return
	}
	if purpose, listed := label(r, addresses); listed {
		q.ok(w.subject, "over %s, labelled %s", r.URL, purpose)
		return
	}
	q.warn(w.subject, "label its addresses: 'homeward node address "+q.MasterTarget.Name+"'", "over %s, which is none of its labelled addresses", r.URL)
}

// retained reports whether the machine kept its addresses; false also when that
// is unknown, or is not so: the finding is entered.
func (q *inquiry) retained() bool {
	kept, known := need(q, q.item(), "whether it kept its addresses", q.Retained)
	if !known {
		return false
	}
	if kept == nil || !*kept {
		q.skip(q.item(), "it did not keep its addresses")
		return false
	}
	return true
}

func failbackWay(q *inquiry) {
	if !q.in(Forward, Away, Returning) || !q.retained() {
		return
	}
	w := q.processWay()
	r, known := w.report(q)
	if !known {
		return
	}
	addresses, known := must(q, w.subject, "the addresses of "+q.MasterTarget.Name, q.MasterTarget.Addresses)
	if !known {
		return
	}
	if purpose, _ := label(r, addresses); purpose != vault.Failback {
		q.block(w.subject, "label the address in the failback network: 'homeward node address "+q.MasterTarget.Name+" --failback HOST:PORT'", "the machine kept its addresses, but the way is over %s, no failback address", r.URL)
		return
	}
	q.ok(w.subject, "over the failback address %s", r.URL)
}

func twoAddresses(q *inquiry) {
	if !q.in(Forward, Away, Returning) || !q.retained() {
		return
	}
	if q.MasterTarget.Name == "" {
		q.skip(q.item(), "no master target is assigned")
		return
	}
	subject := "master target " + q.MasterTarget.Name
	addresses, known := must(q, subject, "its addresses", q.MasterTarget.Addresses)
	if !known {
		return
	}
	has := map[vault.Purpose]bool{}
	for _, a := range addresses {
		has[a.Purpose] = true
	}
	if !has[vault.Production] || !has[vault.Failback] {
		q.block(subject, "give it an address in each network: 'homeward node address "+q.MasterTarget.Name+" --production HOST:PORT --failback HOST:PORT'", "the machine kept its addresses, so that the networks of both sides overlap; it has no address for each")
		return
	}
	q.ok(subject, "it has a production and a failback address")
}
