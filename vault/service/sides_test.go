package service

import (
	"context"
	"slices"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/test/world"
	"github.com/homeward-dr/homeward/vault"
)

// preparing is an agent that keeps what it was asked for.
type preparing struct {
	homeward.Agent
	req homeward.CaptureRequest
}

func (p *preparing) Prepare(_ context.Context, req homeward.CaptureRequest) (homeward.CaptureReport, error) {
	p.req = req
	return homeward.CaptureReport{}, nil
}

// Nodes are told whom they must find at an address, and which hosts may attach a
// machine's disks.
func TestSides_NameThePeers(t *testing.T) {
	r, ctx := newRig(t, world.Options{})
	for _, n := range []vault.Node{{Name: "cs-home", Site: "home"}, {Name: "cs-away", Site: "away"}, {Name: "cs-lost", Site: "home", State: vault.NodeRevoked}} {
		n.Role = pki.ConfigurationServer
		must(t, r.store.Nodes.Insert(ctx, &n))
	}
	end := vault.End{Site: "home", Agent: "agent-home", ProcessServer: "ps-home", MasterTarget: "mt-home"}
	side, err := r.core.side(ctx, end, vault.Production, vault.Failback)
	must(t, err)
	if side.SinkURL != "https://ps-home@home-ps" || side.TargetURL != "https://mt-home@home-mt" {
		t.Errorf("ways to %s and %s", side.SinkURL, side.TargetURL)
	}
	agent := &preparing{}
	_, err = hostedAgent{agent, r.core, "home"}.Prepare(ctx, homeward.CaptureRequest{})
	must(t, err)
	if !slices.Equal(agent.req.Hosts, []string{"cs-home"}) {
		t.Errorf("hosts %q", agent.req.Hosts)
	}
}
