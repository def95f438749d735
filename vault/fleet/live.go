package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// live is a node in memory. Fleet.mu guards it.
type live struct {
	node   vault.Node // the row, with newer values of what heartbeats and probes tell
	member homeward.Member

	next    time.Time // of its next heartbeat
	beating bool
	ask     bool                   // the next one asks for generations
	hasList []byte                 // the revocation list it has
	doubt   time.Duration          // how far Skew may be off
	written time.Time              // when the row was written
	dirty   bool                   // in a way that is worth writing now
	stale   bool                   // in any way
	raised  map[string]vault.Alert // open alerts, by code
	codes   map[string]bool        // of alarms that are told apart
}

// know takes in a row of the store. f.mu is not needed before Run.
func (f *Fleet) know(n vault.Node) *live {
	l := f.nodes[n.Name]
	if l == nil {
		at := f.o.Hub.Expect(pki.Peer{Role: n.Role, Name: n.Name})
		l = &live{member: f.o.Member(at), ask: true, raised: map[string]vault.Alert{}, written: f.o.Now()}
		f.nodes[n.Name] = l
	}
	l.node = n
	return l
}

// Learn reads a node's row again: it was enrolled, renewed, or given addresses.
func (f *Fleet) Learn(ctx context.Context, name string) error {
	n, err := f.o.Store.Nodes.Get(ctx, name)
	if err != nil {
		return homeward.Wrap(err, "learn node", name)
	}
	f.mu.Lock()
	l := f.nodes[name]
	anew := l != nil && !l.node.Enrolled.Equal(n.Enrolled)
	if anew {
		delete(f.nodes, name) // nothing that was told before is about this one
	} else if l != nil {
		overlay(&n, l.node)
	}
	fresh := f.know(n)
	if anew {
		fresh.raised = l.raised
	}
	f.mu.Unlock()
	if anew {
		f.o.Hub.Drop(name, "it was enrolled anew", "if this is not the node that was, stop it")
	}
	f.nudge()
	return f.readList()
}

// overlay puts what heartbeats and probes told into a row.
func overlay(row *vault.Node, from vault.Node) {
	if row.State == vault.NodeRevoked || !row.Enrolled.Equal(from.Enrolled) {
		return
	}
	row.State, row.Version = from.State, from.Version
	row.Heartbeat, row.Skew = from.Heartbeat, from.Skew
	row.Health, row.Reachables = from.Health, from.Reachables
}

// Live is a row of the store with newer values of what heartbeats and probes tell:
// rows are written at most once a minute, unless something of note changed.
func (f *Fleet) Live(row vault.Node) vault.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.nodes[row.Name]; l != nil {
		overlay(&row, l.node)
	}
	return row
}

// URLFor is where peers reach a node's data face: at an address of that purpose,
// or else at its first. Errors: NotFound for no such node, Conflict when it has no
// address.
func (f *Fleet) URLFor(name string, purpose vault.Purpose) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.nodes[name]
	if l == nil {
		return "", unknown("reach node", name)
	}
	all := l.node.Addresses
	if len(all) == 0 {
		return "", homeward.Errorf("reach node", homeward.Conflict, "node "+name,
			"give it an address: 'homeward node address "+name+" --production host:port'", "it has no address for its peers")
	}
	at := max(slices.IndexFunc(all, func(a vault.Address) bool { return a.Purpose == purpose }), 0)
	return "https://" + all[at].Host, nil
}

func unknown(op, name string) error {
	return homeward.Errorf(op, homeward.NotFound, "node "+name, "check the name with 'homeward node list'", "no such node is enrolled")
}

// noteworthy reports whether two states of a node differ in more than what every
// heartbeat changes.
func noteworthy(a, b vault.Node) bool {
	if a.State != b.State || a.Version != b.Version || a.Health.OSFamily != b.Health.OSFamily ||
		a.Health.OSVersion != b.Health.OSVersion || a.Health.Machine != b.Health.Machine || a.Health.Disks != b.Health.Disks {
		return true
	}
	return !slices.EqualFunc(a.Health.Volumes, b.Health.Volumes, func(x, y homeward.Volume) bool {
		return x.Path == y.Path && x.Device == y.Device && x.FSType == y.FSType && x.ReadOnly == y.ReadOnly &&
			x.Size == y.Size && x.Default == y.Default && slices.Equal(x.Uses, y.Uses) && slices.Equal(x.Unknown, y.Unknown)
	}) || !slices.EqualFunc(a.Health.Alarms, b.Health.Alarms, func(x, y homeward.Alarm) bool { return x.Code == y.Code }) ||
		!slices.EqualFunc(a.Reachables, b.Reachables, func(x, y homeward.ProbeReport) bool {
			return x.Peer == y.Peer && x.URL == y.URL && x.Reachable == y.Reachable
		})
}
