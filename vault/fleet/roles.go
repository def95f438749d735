package fleet

import (
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/role"
	"github.com/homeward-dr/homeward/vault"
)

// Agent is the mobility agent at a node. Like all clients here it answers
// Unavailable while the node is away, also for one that never connected.
func (f *Fleet) Agent(name string) homeward.Agent { return role.Agent(f.at(pki.Agent, name)) }

// ProcessServer is the process server at a node.
func (f *Fleet) ProcessServer(name string) homeward.ProcessServer {
	return role.ProcessServer(f.at(pki.ProcessServer, name))
}

// MasterTarget is the master target at a node.
func (f *Fleet) MasterTarget(name string) homeward.MasterTarget {
	return role.MasterTarget(f.at(pki.MasterTarget, name))
}

// Member is what every node is. Errors: NotFound for one that is not enrolled.
func (f *Fleet) Member(name string) (homeward.Member, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.nodes[name]; l != nil {
		return l.member, nil
	}
	return nil, unknown("find node", name)
}

// Site is a site by way of its configuration server: of several, one that is
// ready, and of those the first by name. Errors: NotFound when none has enrolled.
func (f *Fleet) Site(site string) (homeward.Site, error) {
	f.mu.Lock()
	var best *vault.Node
	for _, l := range f.nodes {
		n := &l.node
		if n.Role == pki.ConfigurationServer && n.Site == site && n.State != vault.NodeRevoked && (best == nil || rank(n, best) < 0) {
			best = n
		}
	}
	name := ""
	if best != nil {
		name = best.Name
	}
	f.mu.Unlock()
	if name == "" {
		return nil, homeward.Errorf("find site", homeward.NotFound, "site "+site,
			"enrol one: 'homeward node enrol-token --role configuration-server --site "+site+"'", "no configuration server has enrolled there")
	}
	return role.Site(f.at(pki.ConfigurationServer, name)), nil
}

func rank(a, b *vault.Node) int {
	if x, y := a.State == vault.NodeReady, b.State == vault.NodeReady; x != y {
		if x {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

// at is a node of the hub, which knows all that are enrolled. A name that it does
// not know stands for a node that never connects.
func (f *Fleet) at(r pki.Role, name string) *role.Node {
	if n, err := f.o.Hub.Node(name); err == nil {
		return n
	}
	return f.o.Hub.Expect(pki.Peer{Role: r, Name: name})
}
