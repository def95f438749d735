package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// A node that comes back is heard and its ways are probed at once, from both ends, and
// who wants to know is told.
func TestProbes_AtOnceWhenANodeComes(t *testing.T) {
	s := newStand(t)
	var noted []string
	s.fleet.o.Noted = func(n vault.Node) {
		s.mu.Lock()
		defer s.mu.Unlock()
		noted = append(noted, n.Name)
	}
	ps, mt := s.enrol("ps1", pki.ProcessServer, "home"), s.enrol("mt2", pki.MasterTarget, "dr")
	s.enrol("ps2", pki.ProcessServer, "dr")
	s.pairs = []Pair{{"ps1", "mt2", vault.Failback}, {"mt2", "ps2", vault.Production}}
	s.step(0)
	s.step(time.Second)
	mt.set(func(n *simulated) { n.away = true })
	ps.set(func(n *simulated) { n.reaches = false })
	for range 40 { // its peer finds out
		s.step(15 * time.Second)
	}
	if got := s.row("ps1").Reachables; len(got) != 1 || got[0].Reachable || s.row("mt2").State != vault.NodeDisconnected {
		t.Fatalf("found %+v", got)
	}
	mt.set(func(n *simulated) { n.away = false })
	ps.set(func(n *simulated) { n.reaches = true })
	before, own := len(ps.probed), len(mt.probed)
	noted = nil
	s.fleet.mu.Lock()
	l := s.fleet.nodes["mt2"]
	l.next, l.ask = time.Time{}, true // as the hub's event does
	s.fleet.mu.Unlock()
	s.step(0)           // the heartbeat
	s.step(time.Second) // what follows from it
	if len(ps.probed) != before+1 || len(mt.probed) != own+1 {
		t.Errorf("probed %d times by its peer, %d times by itself; once each was expected", len(ps.probed)-before, len(mt.probed)-own)
	}
	if got := s.row("ps1").Reachables; !got[0].Reachable {
		t.Errorf("found %+v", got)
	}
	if !slices.Contains(noted, "mt2") || !slices.Contains(noted, "ps1") {
		t.Errorf("told of %q", noted)
	}
}

// What a slow probe found does not replace what a later, faster one did.
func TestProbes_TheLaterOneCounts(t *testing.T) {
	s := newStand(t)
	s.enrol("ps1", pki.ProcessServer, "home")
	l := s.fleet.nodes["ps1"]
	begun := s.now()
	l.enter(report("mt2", begun.Add(time.Second), true))
	if _, noted := l.enter(report("mt2", begun, false)); noted || !l.node.Reachables[0].Reachable {
		t.Errorf("noted %t, found %+v", noted, l.node.Reachables)
	}
}

func report(peer string, at time.Time, reaches bool) homeward.ProbeReport {
	return homeward.ProbeReport{Peer: peer, URL: "https://" + peer, At: at, Reachable: reaches}
}
