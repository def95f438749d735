package role

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
)

// AgentHandler serves a mobility agent.
func AgentHandler(a homeward.Agent) http.Handler {
	return contract("agent", map[string]endpoint{
		"prepare":        method(a.Prepare),
		"cut":            method(a.Cut),
		"drain":          method(a.Drain),
		"handover":       method(a.Handover),
		"report":         method(a.Report),
		"changes":        method(a.Changes),
		"mark-changed":   method(a.MarkChanged),
		"release":        method(a.Release),
		"hold":           method(a.Hold),
		"cut-held":       method(a.CutHeld),
		"release-hold":   method(a.ReleaseHold),
		"freeze":         method(a.Freeze),
		"unfreeze":       method(a.Unfreeze),
		"digest":         method(a.Digest),
		"baseline":       method(a.Baseline),
		"changed-since":  method(a.ChangedSince),
		"set-generation": method(a.SetGeneration),
	})
}

// hostsSince is the protocol with CaptureRequest.Hosts.
const hostsSince = 3

// Agent calls the mobility agent at a node.
func Agent(n *Node) homeward.Agent { return agent{n} }

type agent struct{ at *Node }

func (a agent) Prepare(ctx context.Context, r homeward.CaptureRequest) (homeward.CaptureReport, error) {
	if spoken := a.at.Status().Protocol; spoken != 0 && spoken < hostsSince {
		r.Hosts = nil // it does not know the field, and takes hosts of any configuration server
	}
	return call[homeward.CaptureReport](ctx, a.at, "agent/prepare", r)
}

func (a agent) Cut(ctx context.Context, r homeward.CutRequest) (homeward.CutReport, error) {
	return call[homeward.CutReport](ctx, a.at, "agent/cut", r)
}

func (a agent) Drain(ctx context.Context, r homeward.DrainRequest) (homeward.CutReport, error) {
	return call[homeward.CutReport](ctx, a.at, "agent/drain", r)
}

func (a agent) Handover(ctx context.Context, r homeward.GenerationRequest) (homeward.Changes, error) {
	return call[homeward.Changes](ctx, a.at, "agent/handover", r)
}

func (a agent) Report(ctx context.Context, r homeward.ItemRequest) (homeward.CaptureReport, error) {
	return call[homeward.CaptureReport](ctx, a.at, "agent/report", r)
}

func (a agent) Changes(ctx context.Context, r homeward.ItemRequest) (homeward.Changes, error) {
	return call[homeward.Changes](ctx, a.at, "agent/changes", r)
}

func (a agent) MarkChanged(ctx context.Context, r homeward.MarkRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, a.at, "agent/mark-changed", r)
}

func (a agent) Release(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, a.at, "agent/release", r)
}

func (a agent) Hold(ctx context.Context, r homeward.HoldRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, a.at, "agent/hold", r)
}

func (a agent) CutHeld(ctx context.Context, r homeward.HoldRequest) (homeward.CutReport, error) {
	return call[homeward.CutReport](ctx, a.at, "agent/cut-held", r)
}

func (a agent) ReleaseHold(ctx context.Context, r homeward.HoldRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, a.at, "agent/release-hold", r)
}

func (a agent) Freeze(ctx context.Context, r homeward.ItemRequest) (homeward.CutReport, error) {
	return call[homeward.CutReport](ctx, a.at, "agent/freeze", r)
}

func (a agent) Unfreeze(ctx context.Context, r homeward.ItemRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, a.at, "agent/unfreeze", r)
}

func (a agent) Digest(ctx context.Context, r homeward.DigestRequest) (homeward.DigestReport, error) {
	return call[homeward.DigestReport](ctx, a.at, "agent/digest", r)
}

func (a agent) Baseline(ctx context.Context, r homeward.BaselineRequest) (homeward.BaselineReport, error) {
	return call[homeward.BaselineReport](ctx, a.at, "agent/baseline", r)
}

func (a agent) ChangedSince(ctx context.Context, r homeward.BaselineRequest) (homeward.Changes, error) {
	return call[homeward.Changes](ctx, a.at, "agent/changed-since", r)
}

func (a agent) SetGeneration(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, a.at, "agent/set-generation", r)
}
