package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// Roles gives clients of enrolled nodes by name (package fleet). They answer
// Unavailable while a node is away, also for one that never connected.
type Roles interface {
	Agent(name string) homeward.Agent
	ProcessServer(name string) homeward.ProcessServer
	MasterTarget(name string) homeward.MasterTarget
	// Site is reached through the site's configuration server; NotFound when none
	// has enrolled.
	Site(site string) (homeward.Site, error)
}

// sidesOf are the two sites of an item as package recovery sees them. What leaves
// the original site goes over production addresses, what comes back over those of
// failback, where a node has one (R55, R56).
func (c *core) sidesOf(ctx context.Context, it vault.Item) (original, recover *recovery.Side, err error) {
	original, err = c.side(ctx, it.Original, vault.Production, vault.Failback)
	if err == nil {
		recover, err = c.side(ctx, it.Recovery, vault.Failback, vault.Production)
	}
	return original, recover, err
}

// side is one end of an item. out labels the way that leaves it, in the one that
// arrives there. A node that is not chosen yet leaves its client without an answer.
func (c *core) side(ctx context.Context, end vault.End, out, in vault.Purpose) (*recovery.Side, error) {
	site, err := c.roles.Site(end.Site)
	if err != nil {
		return nil, err
	}
	s := &recovery.Side{Name: end.Site, Site: site, Agent: hostedAgent{c.agent(end.Agent), c, end.Site}, Process: c.processServer(end.ProcessServer),
		Target: c.masterTarget(end.MasterTarget), Retention: end.Retention, Disks: end.Disks, AgentName: end.Agent, ProcessName: end.ProcessServer,
		TargetName: end.MasterTarget}
	if s.SinkURL, err = c.urlOf(ctx, end.ProcessServer, out); err == nil {
		s.TargetURL, err = c.urlOf(ctx, end.MasterTarget, in)
	}
	return s, err
}

// urlOf is where peers reach a node's data face, and who must be there: an address alone
// could be another's. Empty for no node.
func (c *core) urlOf(ctx context.Context, node string, p vault.Purpose) (string, error) {
	if node == "" {
		return "", nil
	}
	n, err := c.node(ctx, node)
	if err != nil {
		return "", err
	}
	if host := hostFor(n.Addresses, p); host != "" {
		return "https://" + node + "@" + host, nil
	}
	return "", homeward.Errorf("reach node", homeward.Conflict, "node "+node,
		"give it an address: 'homeward node address "+node+" --production host:port'", "it has no address for its peers")
}

// hostedAgent is an agent whose disks only hosts of its own site may attach.
type hostedAgent struct {
	homeward.Agent
	core *core
	site string
}

func (a hostedAgent) Prepare(ctx context.Context, req homeward.CaptureRequest) (homeward.CaptureReport, error) {
	var err error
	if req.Hosts, err = a.core.hostsAt(ctx, a.site); err != nil {
		return homeward.CaptureReport{}, err
	}
	return a.Agent.Prepare(ctx, req)
}

// hostsAt are the configuration servers of a site, whose hosts run its machines.
func (c *core) hostsAt(ctx context.Context, site string) (names []string, err error) {
	for n, err := range c.store.Nodes.All(ctx, vault.Query{Site: site, Role: string(pki.ConfigurationServer)}) {
		if err != nil {
			return nil, err
		}
		if n.State != vault.NodeRevoked {
			names = append(names, n.Name)
		}
	}
	return names, nil
}

// hostFor chooses the address of a purpose, else the first.
func hostFor(all []vault.Address, p vault.Purpose) string {
	for _, a := range all {
		if a.Purpose == p {
			return a.Host
		}
	}
	if len(all) > 0 {
		return all[0].Host
	}
	return ""
}

// endOf is the item's end at a site.
func endOf(it *vault.Item, site string) *vault.End {
	if site == it.Original.Site {
		return &it.Original
	}
	return &it.Recovery
}

// otherSite is the one where the item does not run.
func otherSite(it vault.Item) string {
	if it.ActiveSite == it.Original.Site {
		return it.Recovery.Site
	}
	return it.Original.Site
}
