package role

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
)

// MemberHandler serves what every role is besides its own contract; Serve does it
// for Options.Member.
func MemberHandler(m homeward.Member) http.Handler {
	return contract("member", map[string]endpoint{
		"health": method(m.Health),
		"probe":  method(m.Probe),
	})
}

// Member calls the member at a node. A node that does not know the calls answers Unsupported: it
// lives, and tells nothing of itself.
func Member(n *Node) homeward.Member { return member{n} }

type member struct{ at *Node }

func (m member) Health(ctx context.Context, r homeward.HealthRequest) (homeward.HealthReport, error) {
	return callWithin[homeward.HealthReport](ctx, m.at, "member/health", r, maxHeartbeat)
}

func (m member) Probe(ctx context.Context, r homeward.ProbeRequest) (homeward.ProbeReport, error) {
	return callWithin[homeward.ProbeReport](ctx, m.at, "member/probe", r, maxProbe)
}
