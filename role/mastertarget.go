package role

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
)

// MasterTargetHandler serves a master target.
func MasterTargetHandler(m homeward.MasterTarget) http.Handler {
	return contract("master-target", map[string]endpoint{
		"prepare":          method(m.Prepare),
		"points":           method(m.Points),
		"pin":              method(m.Pin),
		"unpin":            method(m.Unpin),
		"report":           method(m.Report),
		"fail-over":        method(m.FailOver),
		"cancel-fail-over": method(m.CancelFailOver),
		"promote":          method(m.Promote),
		"roll-back":        method(m.RollBack),
		"diverged":         method(m.Diverged),
		"open-view":        method(m.OpenView),
		"close-view":       method(m.CloseView),
		"verify":           method(m.Verify),
		"forget":           method(m.Forget),
		"freeze":           method(m.Freeze),
		"unfreeze":         method(m.Unfreeze),
		"digest":           method(m.Digest),
		"set-generation":   method(m.SetGeneration),
	})
}

// MasterTarget calls the master target at a node.
func MasterTarget(n *Node) homeward.MasterTarget { return masterTarget{n} }

type masterTarget struct{ at *Node }

func (m masterTarget) Prepare(ctx context.Context, r homeward.ReplicaRequest) (homeward.ReplicaReport, error) {
	return call[homeward.ReplicaReport](ctx, m.at, "master-target/prepare", r)
}

func (m masterTarget) Points(ctx context.Context, r homeward.ItemRequest) (homeward.PointList, error) {
	return call[homeward.PointList](ctx, m.at, "master-target/points", r)
}

func (m masterTarget) Pin(ctx context.Context, r homeward.PinRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, m.at, "master-target/pin", r)
}

func (m masterTarget) Unpin(ctx context.Context, r homeward.PinRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, m.at, "master-target/unpin", r)
}

func (m masterTarget) Report(ctx context.Context, r homeward.ItemRequest) (homeward.ReplicaReport, error) {
	return call[homeward.ReplicaReport](ctx, m.at, "master-target/report", r)
}

func (m masterTarget) FailOver(ctx context.Context, r homeward.FailOverRequest) (homeward.View, error) {
	return call[homeward.View](ctx, m.at, "master-target/fail-over", r)
}

func (m masterTarget) CancelFailOver(ctx context.Context, r homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return call[homeward.ReplicaReport](ctx, m.at, "master-target/cancel-fail-over", r)
}

func (m masterTarget) Promote(ctx context.Context, r homeward.GenerationRequest) (homeward.ReplicaReport, error) {
	return call[homeward.ReplicaReport](ctx, m.at, "master-target/promote", r)
}

func (m masterTarget) RollBack(ctx context.Context, r homeward.FailOverRequest) (homeward.ReplicaReport, error) {
	return call[homeward.ReplicaReport](ctx, m.at, "master-target/roll-back", r)
}

func (m masterTarget) Diverged(ctx context.Context, r homeward.ItemRequest) (homeward.Changes, error) {
	return call[homeward.Changes](ctx, m.at, "master-target/diverged", r)
}

func (m masterTarget) OpenView(ctx context.Context, r homeward.ViewRequest) (homeward.View, error) {
	return call[homeward.View](ctx, m.at, "master-target/open-view", r)
}

func (m masterTarget) CloseView(ctx context.Context, r homeward.ViewRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, m.at, "master-target/close-view", r)
}

func (m masterTarget) Verify(ctx context.Context, r homeward.ItemRequest) (homeward.VerifyReport, error) {
	return call[homeward.VerifyReport](ctx, m.at, "master-target/verify", r)
}

func (m masterTarget) Forget(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, m.at, "master-target/forget", r)
}

func (m masterTarget) Freeze(ctx context.Context, r homeward.ItemRequest) (homeward.CutReport, error) {
	return call[homeward.CutReport](ctx, m.at, "master-target/freeze", r)
}

func (m masterTarget) Unfreeze(ctx context.Context, r homeward.ItemRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, m.at, "master-target/unfreeze", r)
}

func (m masterTarget) Digest(ctx context.Context, r homeward.DigestRequest) (homeward.DigestReport, error) {
	return call[homeward.DigestReport](ctx, m.at, "master-target/digest", r)
}

func (m masterTarget) SetGeneration(ctx context.Context, r homeward.GenerationRequest) (homeward.Done, error) {
	return call[homeward.Done](ctx, m.at, "master-target/set-generation", r)
}
